"""The tables and figures of what `run.py` and `speed.py` found: python -m recipes.components.report"""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import VARIANTS

HERE = Path(__file__).parent
PAPER = {
    "full": 27.01,
    "depth 1 (linear memory)": 28.49,
    "no convolution": 28.73,
    "no momentum": 28.98,
    "no weight decay": 29.04,
    "no persistent tokens": 27.63,
}
"""Perplexities of Titans' table 5."""
DEPTHS = ("depth 1 (linear memory)", "full", "depth 3", "depth 4")
COLOURS = ("#c8553d", "#1b6ca8", "#3b8686", "#8a5a9e", "#b8860b")


def mean_bits(result: dict[str, Any], name: str, reading: str = "model") -> float:
    """Bits a byte over the whole text."""
    found = result["variants"][name]
    widths = [high - low for low, high in pairwise(found["edges"])]
    return sum(width * bits for width, bits in zip(widths, found["bits"][reading], strict=True)) / sum(widths)


def main() -> None:
    """Write the tables into README.md and draw components.png and depth.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/components.json"))]
    edges = results[0]["variants"]["full"]["edges"]
    places = [f"{low:,} to {high:,}" for low, high in pairwise(edges)]
    lines = [["variant", "parameters", "rate of gates", "all 8k", "from 4k on", "writes off", "against full", "paper, perplexity"]]
    for name in VARIANTS:
        parameters = results[0]["variants"][name]["training"]["parameters"]
        last = spread([result["variants"][name]["bits"]["model"][-1] for result in results], ".3f")
        whole = spread([mean_bits(result, name) for result in results], ".3f")
        off = spread([mean_bits(result, name, "writes off") for result in results], ".3f")
        more = spread([mean_bits(result, name) - mean_bits(result, "full") for result in results], "+.3f")
        rates = "; ".join(sorted({f"{result['variants'][name]['training']['run']['schedule']['gate_lr']:g}" for result in results}, reverse=True))
        lines.append([name, f"{parameters:,}", rates, whole, last, off, more, str(PAPER.get(name, ""))])
    table_put(HERE / "README.md", lines, "components")
    depths = [["depth", *places, "read, tokens/s", "trained, tokens/s"]]
    rows = json.loads((HERE / "speed.json").read_text())["rows"]
    longest = max(row["length"] for row in rows)
    for depth, name in enumerate(DEPTHS, start=1):
        bits = [spread([result["variants"][name]["bits"]["model"][i] for result in results], ".3f") for i in range(len(places))]
        speeds = [
            f"{row['tokens_per_second']:,.0f}"
            for train in (False, True)
            for row in rows
            if (row["depth"], row["train"], row["length"]) == (depth, train, longest)
        ]
        depths.append([str(depth), *bits, *speeds])
    table_put(HERE / "README.md", depths, "depth")
    _draw_components(results)
    _draw_depth(results, rows)


def _draw_components(results: list[dict[str, Any]]) -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    ours, theirs = figure.subplots(1, 2, sharey=True)
    names = [name for name in PAPER if name != "full"]
    for i, name in enumerate(names):
        more = [mean_bits(result, name) - mean_bits(result, "full") for result in results]
        ours.barh(i, statistics.mean(more), color="#1b6ca8", alpha=0.6)
        ours.plot(more, [i] * len(more), "o", color="#1b6ca8", markersize=4)
        theirs.barh(i, PAPER[name] - PAPER["full"], color="#777777")
    ours.set_yticks(range(len(names)), names)
    ours.axvline(0, color="#333333", linewidth=0.8)
    ours.set_xlabel(f"bits a byte more than the full model\n(held-out code; dots: {len(results)} seeds)")
    theirs.set_xlabel("perplexity more than the full model\n(Titans, table 5)")
    figure_kept(HERE / "components.png", figure)


def _draw_depth(results: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, speed = figure.subplots(1, 2)
    edges = results[0]["variants"]["full"]["edges"]
    for i, ((low, high), colour) in enumerate(zip(pairwise(edges), COLOURS, strict=True)):
        found = [[result["variants"][name]["bits"]["model"][i] for result in results] for name in DEPTHS]
        loss.plot(range(1, 5), [statistics.mean(bits) for bits in found], marker="o", color=colour, label=f"bytes {low:,} to {high:,}")
        loss.fill_between(range(1, 5), [min(bits) for bits in found], [max(bits) for bits in found], color=colour, alpha=0.15)
    loss.set_xlabel("depth of the memory")
    loss.set_ylabel("bits a byte on held-out code (band: seeds)")
    for train, style in ((False, "-"), (True, "--")):
        for length, colour in zip(sorted({row["length"] for row in rows}), COLOURS, strict=False):
            own = [row["tokens_per_second"] / 1e3 for row in rows if row["train"] == train and row["length"] == length]
            speed.plot(range(1, 5), own, style, marker="o", color=colour, label=f"{'trained' if train else 'read'}, {length:,} tokens")
    speed.set_xlabel("depth of the memory")
    speed.set_ylabel("thousand tokens a second")
    speed.set_ylim(bottom=0)
    for axes in (loss, speed):
        axes.set_xticks(range(1, 5))
        axes.legend(frameon=False, fontsize=8)
    figure_kept(HERE / "depth.png", figure)


if __name__ == "__main__":
    main()
