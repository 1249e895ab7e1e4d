"""What `retain demo` found with all seeds, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retain.evaluation.result import table

from .evidence import spread

READINGS = {
    "writes on": ("code", "writes_on"),
    "trained and read with writes off": ("code-control", "writes_off"),
    "trained with writes, read with writes off": ("code", "writes_off"),
}


def seeds(folder: Path) -> list[dict[str, Any]]:
    """The results of each seed."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/demo.json"))]


def right(results: list[dict[str, Any]], length: int, reading: str) -> str:
    """Needles found, all seeds together."""
    rows = [result[f"needle/{length}"][reading] for result in results]
    return f"{sum(row['right'] for row in rows)} of {sum(row['asked'] for row in rows)}"


def needle(folder: Path, length: int) -> tuple[str, str]:
    """What was found in so many bytes, and with writes off."""
    results = seeds(folder)
    return right(results, length, "writes_on"), f"writes off: {right(results, length, 'writes_off')}"


def lengths(folder: Path) -> str:
    """The needles of all lengths."""
    results = seeds(folder)
    found = sorted(int(name.split("/")[1]) for name in results[0] if name.startswith("needle/") and name.split("/")[1].isdigit())
    lines = [
        [f"{n:,}", right(results, n, "writes_on"), right(results, n, "writes_off"), f"{results[0][f'needle/{n}']['writes_on']['state_bytes']:,}"]
        for n in found
    ]
    return table(["bytes", "all five digits right", "writes off", "state, bytes"], lines)


def code(folder: Path) -> str:
    """Bits a byte of a package that was never seen."""
    results = seeds(folder)
    lines = [
        [said, spread([result[f"{part}/{reading}"]["bits_per_byte"] for result in results], ".3f")] for said, (part, reading) in READINGS.items()
    ]
    return table(["reading", "bits a byte"], lines)
