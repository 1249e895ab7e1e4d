"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.memories.report"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import KINDS, LENGTHS, MEMORIES, PAIRS

HERE = Path(__file__).parent
COLOURS = ("#1b6ca8", "#3b8686", "#8a5a9e", "#c8553d", "#b8860b", "#333333")
PAPER = {
    "Moneta": "99.4 98.8 98.8; 99.4 99.4 92.8; 92.2 88.2 70.8",
    "Yaad": "99.2 98.6 94.4; 99.8 98.6 93.2; 91.8 89.6 67.4",
    "Memora": "99.2 98.8 92.6; 98.4 99.2 93.2; 92.4 88.2 70.4",
    "Titans": "",
    "TTT-MLP": "98.4 98.8 98.0; 60.2 36.6 10.2; 85.8 78.8 28.0",
    "DeltaNet": "96.8 98.8 98.6; 47.2 15.4 12.8; 85.2 46.2 20.0",
}
"""MIRAS, table 3: per cent found; passkey and number at 2k, 4k, 8k tokens, word at 1k, 2k, 4k."""


def shares(results: list[dict[str, Any]], name: str, reading: str, **facts: Any) -> list[float]:
    """The share of right answers, one for each seed whose training went well."""
    out = []
    for result in steady(results, name):
        rows = [
            row for row in result["memories"][name]["rows"] if row["reading"] == reading and all(row[fact] == value for fact, value in facts.items())
        ]
        out.append(sum(row["right"] for row in rows) / sum(row["asked"] for row in rows))
    return out


def steady(results: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those in which the memory's training did not go astray at each rate."""
    return [result for result in results if "astray" not in result["memories"][name]]


def how(results: list[dict[str, Any]], name: str) -> tuple[str, str, str]:
    """Parameters, the rates of the gates, and the seconds of training."""
    found = [result["memories"][name]["training"] for result in steady(results, name)]
    lost = len(results) - len(found)
    rates = sorted({f"{about['run']['schedule']['gate_lr']:g}" for about in found}, reverse=True)
    rates += [f"none of them, {lost} of {len(results)} seeds"] if lost else []
    return f"{found[0]['parameters']:,}", "; ".join(rates), spread([about["seconds"] for about in found], ".0f")


def main() -> None:
    """Write the tables into README.md and draw memories.png."""
    by_task = {task: [json.loads(path.read_text()) for path in sorted(HERE.glob(f"seed-*/{task}.json"))] for task in ("mqar", "needle")}
    mqar, needle = by_task["mqar"], by_task["needle"]
    lines = [["memory", "parameters", "rate of gates", "training, s", *(f"{pairs} pairs" for pairs in PAIRS), "writes off", "memory reset"]]
    for name in MEMORIES:
        off, reset = (spread(shares(mqar, name, reading)) for reading in ("writes off", "memory reset"))
        lines.append([name, *how(mqar, name), *(spread(shares(mqar, name, "model", pairs=pairs)) for pairs in PAIRS), off, reset])
    table_put(HERE / "README.md", lines, "mqar")
    lines = [["memory", "kind", *(f"{length >> 10}k" for length in LENGTHS), "writes off", "memory reset"]]
    for name in MEMORIES:
        for kind in KINDS:
            cells = [spread(shares(needle, name, "model", kind=kind, length=length)) for length in LENGTHS]
            controls = [spread(shares(needle, name, reading, kind=kind)) for reading in ("writes off", "memory reset")]
            lines.append([name, kind, *cells, *controls])
    table_put(HERE / "README.md", lines, "needle")
    lines = [["memory", "parameters", "rate of gates", "training, s", "all needles, ours", "paper, per cent"]]
    for name in MEMORIES:
        lines.append([name, *how(needle, name), spread(shares(needle, name, "model")), PAPER[name]])
    table_put(HERE / "README.md", lines, "paper")

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, results, fact, places in ((left, mqar, "pairs", PAIRS), (right, needle, "length", LENGTHS)):
        for name, colour in zip(MEMORIES, COLOURS, strict=True):
            found = [shares(results, name, "model", **{fact: place}) for place in places]
            axes.plot(places, [sum(share) / len(share) for share in found], marker="o", markersize=4, color=colour, label=name)
            axes.fill_between(places, [min(share) for share in found], [max(share) for share in found], color=colour, alpha=0.12)
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
        axes.set_ylim(-0.03, 1.05)
    left.set_title("MQAR", loc="left", fontsize=11)
    left.set_xlabel("pairs (trained on 16, 32 and 64)")
    left.set_ylabel("right answers (band: all seeds)")
    right.set_title("Needles of three kinds", loc="left", fontsize=11)
    right.set_xlabel("bytes (trained on 128 to 512)")
    right.legend(frameon=False, fontsize=8)
    figure_kept(HERE / "memories.png", figure)


if __name__ == "__main__":
    main()
