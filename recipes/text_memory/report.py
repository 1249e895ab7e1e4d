"""The tables and the figure of this folder's page, from the results that lie beside it.

python -m recipes.text_memory.report
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .exams import over_all
from .run import AFTER, POINTS, SOURCES

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "text-memory.md"
NAMES = {
    "search": "search over all",
    "memory 512": "memory, dim 512",
    "reservoir 512": "reservoir, bytes of 512",
    "memory 256": "memory, dim 256",
    "reservoir 256": "reservoir, bytes of 256",
    "memory 128": "memory, dim 128",
    "reservoir 128": "reservoir, bytes of 128",
    "linear": "matrix, same rule",
    "least squares": "matrix, least squares",
}
COLOURS = {"512": "#1b6ca8", "256": "#c8553d", "128": "#3b8686"}
TURNED = {
    "first, read": ("verses, read", "#333333"),
    "first, unread": ("verses, unread", "#999999"),
    "second, unread": ("docstrings, unread", "#c8553d"),
}
Row = dict[str, Any]
Found = dict[str, list[list[Row]]]
"""Rows of each memory, by seed."""


def main() -> None:
    """Put the tables into README.md, and draw recall and novelty against how much was read."""
    page, found = HERE / "README.md", {name: results(HERE / name) for name in (*SOURCES, "change")}
    for name in SOURCES:
        table_put(page, by_reading(found[name], lambda row: over_all(row, "right first")), f"{name} recall")
        table_put(page, by_reading(found[name], lambda row: row["unseen over seen"]), f"{name} novelty")
        table_put(page, at_the_end(found[name]), f"{name} end")
    table_put(page, turned(found["change"]), "change")
    table_put(GUIDE, at_the_end(found["verses"]), "evidence")
    figure_kept(HERE / "text_memory.png", drawn(found))


def results(folder: Path) -> Found:
    """What the seeds of a folder found, by memory."""
    found: Found = {}
    for path in sorted(folder.glob("seed-*.json")):
        for name, memory in json.loads(path.read_text())["memories"].items():
            found.setdefault(name, []).append(memory["rows"])
    return found


def by_reading(found: Found, figure: Callable[[Row], float]) -> list[list[str]]:
    """A figure of each memory, by how much was read: mean, least and most of the seeds."""
    lines = [["", "bytes", *(f"{n:,} texts" for n in POINTS)]]
    for name, said in NAMES.items():
        if seeds := found.get(name):
            size = f"{seeds[0][-1]['bytes'] / 1e6:.2f} MB"
            lines.append(
                [
                    said,
                    f"grows to {size}" if name == "search" else size,
                    *(spread([figure(rows[i]) for rows in seeds], ".3f") for i in range(len(seeds[0]))),
                ]
            )
    return lines


def at_the_end(found: Found) -> list[list[str]]:
    """After the last text: five best, edits, the oldest and the newest."""
    figures: dict[str, Callable[[Row], float]] = {
        "right one among five": lambda row: over_all(row, "right among five"),
        "unseen over edited": lambda row: over_all(row, "unseen over edited"),
        "edited over seen": lambda row: over_all(row, "edited over seen"),
        "unseen over oldest 100": lambda row: row["unseen over oldest"],
        "unseen over newest 100": lambda row: row["unseen over newest"],
        "oldest 100 recalled": lambda row: row["stretches"][0]["right first"],
        "newest 100 recalled": lambda row: row["stretches"][-1]["right first"],
    }
    lines = [["", *figures]]
    for name, said in NAMES.items():
        if seeds := found.get(name):
            lines.append([said, *(spread([figure(rows[-1]) for rows in seeds]) for figure in figures.values())])
    return lines


def turned(found: Found) -> list[list[str]]:
    """How strange both topics are, by how much of the second was read."""
    lines = [["", "texts", *(f"{n:,}" for n in AFTER)]]
    for name in [name for name in NAMES if name in found]:
        for kind, (told, _) in TURNED.items():
            values = [[rows[i][kind] for rows in found[name]] for i in range(len(AFTER))]
            lines.append([NAMES[name], told, *(spread(x, ".3f") for x in values)])
    return lines


def drawn(found: dict[str, Found]) -> Figure:
    """Recall above, novelty below; a column for each source, and the change of topic."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for column, name in enumerate(SOURCES):
        _lines(axes[0][column], found[name], lambda row: over_all(row, "right first"))
        _lines(axes[1][column], found[name], lambda row: row["unseen over seen"])
        axes[0][column].set_title(name, fontsize=10)
        axes[1][column].set_xlabel("texts read")
    axes[0][0].set_ylabel("right text first")
    axes[1][0].set_ylabel("unseen over seen (AUROC of surprise)")
    for at, name in enumerate(("memory 256", "linear")):
        for kind, (told, colour) in TURNED.items():
            values = [statistics.mean(rows[i][kind] for rows in found["change"][name]) for i in range(len(AFTER))]
            axes[at][2].plot(AFTER, values, marker="o", markersize=3, color=colour, label=told)
        axes[at][2].set_title(f"{NAMES[name]}: surprise after a change of topic", fontsize=10)
        axes[at][2].legend(frameon=False, fontsize=8)
    axes[1][2].set_xlabel("docstrings read")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _lines(axes: Axes, found: Found, figure: Callable[[Row], float]) -> None:
    for name, said in NAMES.items():
        if seeds := found.get(name):
            colour = COLOURS.get(name.split()[-1], "#333333" if name == "search" else "#8a5a9e" if name == "linear" else "#b8860b")
            values = [[figure(rows[i]) for rows in seeds] for i in range(len(seeds[0]))]
            dashed = "--" if name.startswith("reservoir") else "-"
            axes.plot(POINTS[: len(values)], [statistics.mean(x) for x in values], dashed, marker="o", markersize=3, color=colour, label=said)
            axes.fill_between(POINTS[: len(values)], [min(x) for x in values], [max(x) for x in values], color=colour, alpha=0.1)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.03)


if __name__ == "__main__":
    main()
