"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.hope_parts.report"""

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
FULL = "full"
PAPER = {
    "full": 12.24,
    "no DGD": 13.41,
    "no momentum": 13.58,
    "no weight decay": 13.71,
    "no CMS": 13.04,
    "k stands still": 13.77,
    "v stands still": 13.90,
}
"""Perplexities of Nested Learning's table 6; its "w/o q", 12.19, is our full model, whose queries stand still."""


def mean_bits(result: dict[str, Any], name: str, reading: str = "model") -> float:
    """Bits a byte over the whole text."""
    found = result["variants"][name]
    widths = [high - low for low, high in pairwise(found["edges"])]
    return sum(width * bits for width, bits in zip(widths, found["bits"][reading], strict=True)) / sum(widths)


def main() -> None:
    """Write the tables into README.md and draw parts.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/parts.json"))]
    names = [name for name in VARIANTS if all(name in result["variants"] for result in results)]
    edges = results[0]["variants"][FULL]["edges"]
    places = [f"{low:,} to {high:,}" for low, high in pairwise(edges)]
    lines = [["variant", "parameters", "rate", f"all {edges[-1]:,}", "against full", "writes off", "training, s", "paper, perplexity"]]
    where = [["variant", *places]]
    for name in names:
        own = [result["variants"][name] for result in results]
        rates = "; ".join(sorted({f"{each['training']['run']['schedule']['lr']:g}" for each in own}, reverse=True))
        bits, off = (spread([mean_bits(result, name, reading) for result in results], ".3f") for reading in ("model", "writes off"))
        more = spread([mean_bits(result, name) - mean_bits(result, FULL) for result in results], "+.3f")
        seconds = spread([each["training"]["seconds"] for each in own], ".0f")
        lines.append([name, f"{own[0]['training']['parameters']:,}", rates, bits, more, off, seconds, str(PAPER.get(name, ""))])
        where.append([name, *(spread([each["bits"]["model"][i] for each in own], ".3f") for i in range(len(places)))])
    table_put(HERE / "README.md", lines, "parts")
    table_put(HERE / "README.md", where, "places")

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    ours, theirs = figure.subplots(1, 2, sharey=True)
    shown = [name for name in names if name != FULL]
    for i, name in enumerate(shown):
        more = [mean_bits(result, name) - mean_bits(result, FULL) for result in results]
        ours.barh(i, statistics.mean(more), color="#1b6ca8", alpha=0.6)
        ours.plot(more, [i] * len(more), "o", color="#1b6ca8", markersize=4)
        if name in PAPER:
            theirs.barh(i, PAPER[name] - PAPER[FULL], color="#777777")
    ours.set_yticks(range(len(shown)), shown)
    for axes in (ours, theirs):
        axes.axvline(0, color="#333333", linewidth=0.8)
    ours.set_xlabel(f"bits a byte more than the full model\n(held-out code; dots: {len(results)} seeds)")
    theirs.set_xlabel("perplexity more than the full model\n(Nested Learning, table 6)")
    figure_kept(HERE / "parts.png", figure)


if __name__ == "__main__":
    main()
