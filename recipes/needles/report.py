"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.needles.report"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retain.evaluation import Share

from ..evidence import figure_kept, table_put
from .run import CASES, LENGTHS, WRITES_OFF_UP_TO

HERE = Path(__file__).parent
COLOURS = ("#1b6ca8", "#3b8686", "#8a5a9e", "#b8860b", "#c8553d", "#6b7a3a")
CONTROLS = ("writes off", "memory reset", "window cut")


def pooled(cells: list[dict[str, Any]], reading: str) -> Share:
    """Right answers of all seeds together."""
    rows = [row for cell in cells for row in cell["rows"] if row["reading"] == reading]
    return sum((Share(row["right"], row["asked"]) for row in rows), Share(0, 0))


def words(share: Share) -> str:
    """Such as ``24/24``, or nothing if that was not read."""
    return f"{share.right}/{share.asked}" if share.asked else ""


def size(length: int) -> str:
    """Such as 64k or 1M."""
    return f"{length >> 20}M" if length >= 1 << 20 else f"{length >> 10}k"


def main() -> None:
    """Write the tables into README.md and draw needles.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/needles.json"))]
    cells = [cell for result in results for cell in result["cells"]]
    plain = [cell for cell in cells if "hay" not in cell and "misspelt" not in cell]
    lengths = [length for length in LENGTHS if any(cell["length"] == length for cell in plain)]

    def of(case: str, length: int) -> list[dict[str, Any]]:
        return [cell for cell in plain if cell["case"] == case and cell["length"] == length]

    table_put(
        HERE / "README.md",
        [["case", *map(size, lengths)]] + [[case.name, *(words(pooled(of(case.name, length), "model")) for length in lengths)] for case in CASES],
        "model",
    )
    lines = [["control", *map(size, lengths)]]
    for control in CONTROLS:
        lines.append([control, *(words(pooled([cell for cell in plain if cell["length"] == length], control)) for length in lengths)])
    table_put(HERE / "README.md", lines, "controls")
    seeds = [["case at 1M", *(f"seed {result['seed']}" for result in results)]]
    for case in CASES:
        longest = [[cell for cell in of(case.name, lengths[-1]) if cell in result["cells"]] for result in results]
        seeds.append([case.name, *(words(pooled(found, "model")) for found in longest)])
    table_put(HERE / "README.md", seeds, "seeds")
    hard = [["kind, in 64k", "held-out code", "English manual", "1 misspelt mark", "4", "16"]]
    for case in CASES[:3]:
        others = [[cell for cell in cells if cell["case"] == case.name and cell.get("hay")]]
        others += [[cell for cell in cells if cell["case"] == case.name and cell.get("misspelt") == count] for count in (1, 4, 16)]
        hard.append([case.name, *(words(pooled(found, "model")) for found in (of(case.name, 1 << 16), *others))])
    table_put(HERE / "README.md", hard, "harder")

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, (case, colour) in enumerate(zip(CASES, COLOURS, strict=True)):
        shares = [pooled(of(case.name, length), "model") for length in lengths]
        shifted = [length * 2 ** (0.06 * (i - 2.5)) for length in lengths]
        errors = [
            [max(0.0, share.value - share.interval[0]) for share in shares],
            [max(0.0, share.interval[1] - share.value) for share in shares],
        ]
        axes.errorbar(
            shifted, [share.value for share in shares], errors, color=colour, marker="o", markersize=4, elinewidth=1, capsize=2, label=case.name
        )
    for control, style in (("writes off", ":"), ("memory reset", "--")):
        there = [length for length in lengths if control != "writes off" or length <= WRITES_OFF_UP_TO]
        shares = [pooled([cell for cell in plain if cell["length"] == length], control) for length in there]
        axes.plot(there, [share.value for share in shares], style, color="#777777", label=f"{control}, all cases")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [size(length) for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("length of the haystack (bytes = tokens); trained on 192 to 2,048")
    axes.set_ylabel("answers right to the last byte")
    axes.set_title(
        f"Needles in real source code; seeds: {', '.join(str(result['seed']) for result in results)} (bars: 95 % Wilson intervals)",
        loc="left",
        fontsize=11,
    )
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0, 0.4))
    figure_kept(HERE / "needles.png", figure)


if __name__ == "__main__":
    main()
