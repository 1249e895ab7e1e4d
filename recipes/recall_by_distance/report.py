"""The table and the figure of what `run.py` found with all seeds: python -m recipes.recall_by_distance.report"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import MODELS, WINDOW

HERE = Path(__file__).parent
COLOURS = {"MAG": "#1b6ca8", "MAC": "#3b8686", "LMM": "#8a5a9e", "sliding window": "#c8553d"}


def shares(found: list[dict[str, Any]], reading: str) -> dict[int, list[float]]:
    """The share of right answers at each distance, one for each seed."""
    out: dict[int, list[float]] = {}
    for result in found:
        for row in result["rows"]:
            if row["reading"] == reading:
                out.setdefault(row["distance"], []).append(row["right"] / row["asked"])
    return out


def main() -> None:
    """Write the table into README.md and draw recall.png."""
    results = {name: [json.loads(path.read_text()) for path in sorted(HERE.glob(f"seed-*/{name.replace(' ', '-')}.json"))] for name in MODELS}
    distances = sorted(shares(results["LMM"], "model"))
    lines = [["model", "reading", *(f"{distance:,} ({distance / WINDOW:g}x)" for distance in distances)]]
    for name, found in results.items():
        for reading in ("model", "writes off", "memory reset", "window cut"):
            if name == "sliding window" and reading in ("writes off", "memory reset"):
                continue  # it has no memory
            lines.append([f"{name}", reading, *(spread(shares(found, reading)[distance]) for distance in distances)])
    table_put(HERE / "README.md", lines)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, found in results.items():
        for reading, style in (("model", "-"), ("writes off", ":")):
            if name == "sliding window" and reading == "writes off":
                continue
            share = shares(found, reading)
            mean = [sum(share[d]) / len(share[d]) for d in distances]
            label = name if reading == "model" else f"{name}, writes off"
            axes.plot(distances, mean, style, color=COLOURS[name], marker="o", markersize=4, label=label)
            axes.fill_between(distances, [min(share[d]) for d in distances], [max(share[d]) for d in distances], color=COLOURS[name], alpha=0.2)
    axes.axvline(WINDOW, color="#777777", linewidth=0.9, linestyle="--")
    axes.annotate(f"attention's window,\n{WINDOW} tokens", (WINDOW, 0.5), (6, 0), textcoords="offset points", color="#777777", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("tokens between the pairs and the questions")
    axes.set_ylabel("values recalled (band: least to most of the seeds)")
    axes.set_title(f"Eight pairs recalled by distance, models of one size, {len(results['LMM'])} seeds", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8, loc="center right")
    figure_kept(HERE / "recall.png", figure)


if __name__ == "__main__":
    main()
