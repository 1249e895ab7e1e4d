"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.formal_languages.report"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .run import BINS, COUNTED, LANGUAGES, MODELS, rate_of

HERE = Path(__file__).parent
MARKS = {"parity": "parity", "(aa)*": "even", "a^n b^n": "counts"}
COLOURS = dict(zip(MODELS, ("#1b6ca8", "#8a5a9e", "#3b8686", "#b8860b", "#c8553d", "#333333"), strict=True))
PAPER = {
    "Hope": ("100 / 100", "100 / 100", "100 / 100"),
    "DeltaNet, up to 1": ("98.2 / 10.1", "0 / 0", "100 / 100"),
    "linear attention": ("78.1 / 0", "0 / 0", "100 / 100"),
    "transformer": ("46.4 / 0", "0 / 0", "100 / 100"),
}
"""Nested Learning, table 5: per cent, on lengths as trained / longer ones."""


def cells_of(results: list[dict[str, Any]], name: str, language: str) -> list[dict[str, Any]]:
    """A model's training and answers, one for each seed."""
    return [cell for result in results for cell in result["cells"] if (cell["model"], cell["language"]) == (name, language)]


def shares(cells: list[dict[str, Any]], reading: str, place: int | None, right: str, of: str) -> list[float]:
    """The share of right answers in one bin or in all, one for each seed."""
    out = []
    for cell in cells:
        rows = [row for row in cell["rows"] if row["reading"] == reading and (place is None or row["bin"] == list(BINS[place]))]
        if rows:
            out.append(sum(row[right] for row in rows) / sum(row[of] for row in rows))
    return out


def main() -> None:
    """Write the tables into README.md and draw languages.png."""
    results = [json.loads(path.read_text()) for path in sorted(HERE.glob("seed-*/languages.json"))]
    heads = [f"{fewest}-{most}" for fewest, most in BINS]
    for i, language in enumerate(LANGUAGES):
        lines = [["model", "parameters", "seeds", "rate", *heads, "writes off, all lengths"]]
        whole = [["model", *heads, "paper", "updates", "seconds"]]
        for name in MODELS:
            cells = cells_of(results, name, language)
            if not cells:
                continue
            off = shares(cells, "writes off", None, "right", "asked")
            found = [spread(shares(cells, "model", place, "right", "asked"), ".3f") for place in range(len(BINS))]
            facts = [f"{cells[0]['training']['parameters']:,}", str(len(cells)), f"{rate_of(name, language):g}"]
            lines.append([name, *facts, *found, spread(off, ".3f") if off else ""])
            found = [spread(shares(cells, "model", place, "words", "of")) for place in range(len(BINS))]
            done = [spread([cell["training"][what] for cell in cells], ".0f") for what in ("updates", "seconds")]
            whole.append([name, *found, PAPER.get(name, ("",) * 3)[i], *done])
        table_put(HERE / "README.md", lines, MARKS[language])
        table_put(HERE / "README.md", whole, f"{MARKS[language]}, whole words")

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, language in zip(figure.subplots(1, len(LANGUAGES), sharey=True), LANGUAGES, strict=True):
        counted, what = COUNTED[language], "words" if COUNTED[language][0] == "words" else "letters"
        for name, colour in COLOURS.items():
            found = [shares(cells_of(results, name, language), "model", place, *counted) for place in range(len(BINS))]
            if all(found):
                axes.plot(heads, [sum(share) / len(share) for share in found], marker="o", markersize=4, color=colour, label=name)
                axes.fill_between(heads, [min(share) for share in found], [max(share) for share in found], color=colour, alpha=0.12)
        axes.set_title(f"{language}: {what}", loc="left", fontsize=11)
        axes.set_xlabel(f"letters (trained on {heads[0]})")
        axes.set_ylim(-0.03, 1.03)
    first = figure.axes[0]
    first.set_ylabel("right (band: all seeds)")
    first.legend(frameon=False, fontsize=8, loc="lower left")
    figure_kept(HERE / "languages.png", figure)


if __name__ == "__main__":
    main()
