"""The table and figure of what `run.py` found: python -m recipes.outliers.report"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, table_put
from .run import BIASES, SHARES, STRUCTURES

HERE = Path(__file__).parent
COLOURS = ("#333333", "#1b6ca8", "#7fb3d5", "#c8553d", "#3b8686", "#8a5a9e", "#b8860b")


def main() -> None:
    """Write the table into README.md and draw outliers.png."""
    cells = json.loads((HERE / "outliers.json").read_text())["cells"]
    found = {(cell["structure"], cell["bias"], cell["share"]): cell["recalled"] for cell in cells}
    lines = [["memory", "held by", *(f"{share:.0%} outliers" for share in SHARES)]]
    for net in STRUCTURES:
        for name in BIASES:
            values = [found[net, name, share] for share in SHARES]
            lines.append([net, name, *(f"{statistics.mean(x):.3f} ({min(x):.2f} - {max(x):.2f})" for x in values)])
    table_put(HERE / "README.md", lines)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, net in zip(figure.subplots(1, 2, sharey=True), STRUCTURES, strict=True):
        for name, colour in zip(BIASES, COLOURS, strict=True):
            values = [found[net, name, share] for share in SHARES]
            x = [100 * share for share in SHARES]
            axes.plot(x, [statistics.mean(v) for v in values], marker="o", color=colour, label=name)
            axes.fill_between(x, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.1)
        axes.set_title(net, fontsize=10)
        axes.set_xlabel("values that are outliers, %")
        axes.set_ylim(0, 1.03)
    figure.axes[0].set_ylabel("keys recalled (band: all streams)")
    figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    figure_kept(HERE / "outliers.png", figure)


if __name__ == "__main__":
    main()
