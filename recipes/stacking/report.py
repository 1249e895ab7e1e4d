"""The table of what `run.py` found: python -m recipes.stacking.report"""

from __future__ import annotations

import json
from pathlib import Path

from ..evidence import table_put
from .run import ASKED, READINGS

HERE = Path(__file__).parent


def main() -> None:
    """Write the table into README.md: bits a token of all pieces, and of the last four against the model that stands still."""
    found = json.loads((HERE / "stacking.json").read_text())
    lines = [["levels", "rate", *ASKED, "all", "of that, the last 4 pieces against still"]]
    for name in READINGS:
        pieces = [found["bits"][name][text] for text in ASKED]
        late = [sum(bits[-4:]) / 4 - sum(found["bits"]["still"][text][-4:]) / 4 for text, bits in zip(ASKED, pieces, strict=True)]
        tuned = found["tuned"].get(name)
        means = [sum(bits) / len(bits) for bits in pieces]
        rate = min(tuned, key=tuned.get) if tuned else ""
        lines.append([name, rate, *(f"{mean:.3f}" for mean in means), f"{sum(means) / len(means):.3f}", f"{sum(late) / len(late):+.3f}"])
    table_put(HERE / "README.md", lines)


if __name__ == "__main__":
    main()
