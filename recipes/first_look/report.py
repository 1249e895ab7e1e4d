"""The table and the figure of what `run.py` found: python -m recipes.first_look.report"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import KEYS, ROUNDS

HERE = Path(__file__).parent
COLOURS = {"matrix": "#3b8686", "MLP": "#1b6ca8", "writes off": "#777777"}


def main() -> None:
    """Write the table into README.md and draw first_look.png."""
    memories = json.loads((HERE / "first_look.json").read_text())["memories"]
    lines = [["memory", "", *(f"round {i + 1}: {which}" for i, which in enumerate(ROUNDS))]]
    for name, found in memories.items():
        by_round = [[statistics.mean(row[i * KEYS : (i + 1) * KEYS]) for row in found["surprise"]] for i in range(len(ROUNDS))]
        lines.append([name, "surprise", *map(spread, by_round)])
        lines += [[name, f"{which} known", *(spread([row[i] for row in found[which]]) for i in range(len(ROUNDS)))] for which in "AB"]
    table_put(HERE / "README.md", lines)

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    surprise, known = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for name, found in memories.items():
        means = [statistics.mean(token) for token in zip(*found["surprise"], strict=True)]
        surprise.plot(range(len(means)), means, color=COLOURS[name], linewidth=1.4, label=name)
        for which, style in (("A", "-"), ("B", "--")):
            shares = [statistics.mean(each) for each in zip(*found[which], strict=True)]
            known.plot(range(1, len(ROUNDS) + 1), shares, style, color=COLOURS[name], marker="o", markersize=4, label=f"{name}: set {which}")
    for i, which in enumerate(ROUNDS):
        surprise.axvline(i * KEYS, color="#bbbbbb", linewidth=0.8)
        surprise.annotate(f"set {which}", ((i + 0.5) * KEYS, 0.02), ha="center", color="#777777", fontsize=9, xycoords=("data", "axes fraction"))
    surprise.set_title("Surprise: how far off before the token is learnt", loc="left", fontsize=11)
    surprise.set_xlabel("tokens read (each a key and its value)")
    surprise.set_ylabel("in units of the value's size")
    surprise.set_ylim(bottom=0)
    surprise.legend(frameon=False, fontsize=8, loc="center", bbox_to_anchor=(0.5, 0.68))
    known.set_title("Known after each round", loc="left", fontsize=11)
    known.set_xlabel("rounds read")
    known.set_ylim(-0.03, 1.05)
    known.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(0, 0.3))
    figure_kept(HERE / "first_look.png", figure)


if __name__ == "__main__":
    main()
