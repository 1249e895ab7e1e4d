"""The table and the figure of what `run.py` found with all seeds: python -m recipes.code_by_position.report"""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import MODELS

HERE = Path(__file__).parent
COLOURS = {"MAG": "#1b6ca8", "sliding window": "#c8553d"}
STYLES = {"model": "-", "writes off": ":", "memory reset": "--", "window cut": "-."}


def main() -> None:
    """Write the table into README.md and draw code.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/code.json"))]
    edges = results[0]["edges"]
    lines = [["model", "reading", *(f"{low:,} to {high:,}" for low, high in pairwise(edges))]]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    middles = [(low * high) ** 0.5 for low, high in pairwise(edges)]
    for name in MODELS:
        for reading in results[0]["models"][name]["bits"]:
            bits = [[result["models"][name]["bits"][reading][i] for result in results] for i in range(len(middles))]
            lines.append([name, reading, *(spread(each, ".3f") for each in bits)])
            if reading in ("model", "memory reset"):
                label = name if reading == "model" else f"{name}, {reading} at each point"
                axes.plot(
                    middles, [statistics.mean(each) for each in bits], STYLES[reading], color=COLOURS[name], marker="o", markersize=4, label=label
                )
                axes.fill_between(middles, [min(each) for each in bits], [max(each) for each in bits], color=COLOURS[name], alpha=0.15)
    table_put(HERE / "README.md", lines)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("place in the file (bytes)")
    axes.set_ylabel("bits a byte (band: least to most of the seeds)")
    axes.set_title(f"Files of packages that were never trained on, {len(results)} seeds", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    figure_kept(HERE / "code.png", figure)


if __name__ == "__main__":
    main()
