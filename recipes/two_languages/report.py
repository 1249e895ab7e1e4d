"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.two_languages.report"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import BLOCKS, CELLS, LEVELS, PERIODS

HERE = Path(__file__).parent
COLOURS = dict(zip(PERIODS, ("#777777", "#8a5a9e", "#b8860b", "#3b8686", "#1b6ca8", "#c8553d", "#e0a899"), strict=True))
OF_A = ("A, after A", "A, after B", "A, after B, C, D")
CONTROLS = ("writes off", "memory reset", "window cut")


def shares(results: list[dict[str, Any]], levels: str, cell: str, reading: str = "model") -> list[float]:
    """The share of right answers, one for each seed."""
    rows = [row for result in results for row in result["levels"][levels]["rows"] if (row["cell"], row["reading"]) == (cell, reading)]
    return [row["right"] / row["asked"] for row in rows]


def forgotten(results: list[dict[str, Any]], levels: str) -> list[float]:
    """How many more answers are right right after the first language than after the second."""
    return [before - after for before, after in zip(shares(results, levels, OF_A[0]), shares(results, levels, OF_A[1]), strict=True)]


def trained_levels(results: list[dict[str, Any]], block: str) -> list[str]:
    """Those that every seed has."""
    return [levels for levels in LEVELS[block] if results and all(levels in result["levels"] for result in results)]


def main() -> None:
    """Write the tables into README.md and draw languages.png."""
    found = {block: [json.loads(path.read_text()) for path in sorted(HERE.glob(f"seed-*/{block}.json"))] for block in BLOCKS}
    lines = [["block", "levels", "parameters", *CELLS, "forgotten of A"]]
    controls = [["block", "levels", *(f"{cell}: {name}" for cell in OF_A[:2] for name in CONTROLS)]]
    costs = [["block", "levels", "rates they came to", "training, s"]]
    for block, results in found.items():
        for levels in trained_levels(results, block):
            own = [result["levels"][levels] for result in results]
            parameters = f"{own[0]['training']['parameters']:,}"
            cells = [spread(shares(results, levels, cell)) for cell in CELLS]
            lines.append([block, levels, parameters, *cells, spread(forgotten(results, levels))])
            controls.append([block, levels, *(spread(shares(results, levels, cell, name)) for cell in OF_A[:2] for name in CONTROLS)])
            rates = ", ".join(spread([each["rates"][i] for each in own], ".3f") for i in range(len(own[0]["rates"])))
            costs.append([block, levels, rates, spread([each["training"]["seconds"] for each in own], ".0f")])
    for name, table in (("languages", lines), ("controls", controls), ("costs", costs)):
        table_put(HERE / "README.md", table, name)

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (block, results) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        for levels in trained_levels(results, block):
            each = [shares(results, levels, cell) for cell in OF_A]
            places = [1, 2, 4]
            axes.plot(places, [sum(share) / len(share) for share in each], marker="o", markersize=4, color=COLOURS[levels], label=levels)
            axes.fill_between(places, [min(share) for share in each], [max(share) for share in each], color=COLOURS[levels], alpha=0.12)
        axes.set_title({"attention": "Sliding-window attention", "hope": "Hope"}[block], loc="left", fontsize=11)
        axes.set_xticks([1, 2, 4])
        axes.set_xlabel("languages read (trained on one and two)")
        axes.set_ylim(-0.03, 1.03)
    figure.axes[0].set_ylabel("right about the first (band: all seeds)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8, title="periods of levels")
    figure_kept(HERE / "languages.png", figure)


if __name__ == "__main__":
    main()
