"""The table of what `run.py` found: python -m recipes.forgetting.report"""

from __future__ import annotations

import json
from pathlib import Path

from ..evidence import spread, table_put

HERE = Path(__file__).parent


def main() -> None:
    """Write the table into README.md."""
    lines = [["held by", "gate", "rate, kept", "newest value", "still the old one", "other keys", "weights at zero"]]
    for cell in json.loads((HERE / "forgetting.json").read_text())["cells"]:
        gate = cell["gate"] if cell["gate"] == "nothing let go" else f"{cell['gate']}: `{cell['chosen']}`"
        numbers = [spread(cell[label]) for label in ("newest", "stale", "others", "zeros")]
        lines.append([cell["bias"], gate, f"{cell['rate']:g}, {cell['kept']:g}", *numbers])
    table_put(HERE / "README.md", lines)


if __name__ == "__main__":
    main()
