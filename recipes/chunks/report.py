"""The table and the figure of what `run.py` and `speed.py` found: python -m recipes.chunks.report"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import CHUNKS, MEMORIES

HERE = Path(__file__).parent
COLOURS = ("#c8553d", "#1b6ca8", "#3b8686", "#8a5a9e")


def bits(results: list[dict[str, Any]], name: str, chunk: int, reading: str) -> list[float]:
    """Bits a byte over whole texts, one number for each seed."""
    out = []
    for result in results:
        cell = next(cell for cell in result["cells"] if (cell["memory"], cell["chunk"]) == (name, chunk))
        widths = [high - low for low, high in pairwise(cell["edges"])]
        out.append(sum(width * loss for width, loss in zip(widths, cell["bits"][reading], strict=True)) / sum(widths))
    return out


def starts(results: list[dict[str, Any]], name: str, chunk: int) -> str:
    """The shares of the largest rate at which the gates of the seeds started."""
    cells = [cell for result in results for cell in result["cells"] if (cell["memory"], cell["chunk"]) == (name, chunk)]
    return "; ".join(sorted({f"{cell['training']['run']['model']['memory']['gates']['lr']:g}" for cell in cells}, reverse=True))


def main() -> None:
    """Write the table into README.md and draw chunks.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/chunks.json"))]
    speeds = {(row["memory"], row["chunk"], row["train"]): row["tokens_per_second"] for row in json.loads((HERE / "speed.json").read_text())["rows"]}
    lines = [["memory", "chunk", "gates start at", "bits a byte", "writes off", "read, tokens/s", "trained, tokens/s"]]
    for name in MEMORIES:
        for chunk in CHUNKS:
            found = [spread(bits(results, name, chunk, reading), ".3f") for reading in ("model", "writes off")]
            lines.append([name, str(chunk), starts(results, name, chunk), *found, *(f"{speeds[name, chunk, train]:,.0f}" for train in (False, True))])
    table_put(HERE / "README.md", lines)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, colour in zip(MEMORIES, COLOURS, strict=True):
        found = [bits(results, name, chunk, "model") for chunk in CHUNKS]
        left.plot(CHUNKS, [sum(some) / len(some) for some in found], marker="o", color=colour, label=name)
        left.fill_between(CHUNKS, [min(some) for some in found], [max(some) for some in found], color=colour, alpha=0.12)
        right.plot(CHUNKS, [speeds[name, chunk, True] for chunk in CHUNKS], marker="o", color=colour, label=name)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(CHUNKS, [str(chunk) for chunk in CHUNKS])
        axes.minorticks_off()
        axes.set_xlabel("chunk: tokens between two boundaries")
    left.set_ylabel("bits a byte (band: all seeds)")
    right.set_ylabel("tokens trained a second")
    right.set_yscale("log")
    right.legend(frameon=False, fontsize=8)
    figure_kept(HERE / "chunks.png", figure)


if __name__ == "__main__":
    main()
