"""Where results go: a folder that can be written to, which is known before anything is measured."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .figures import draw
from .report import readme


@dataclass(frozen=True)
class Folder:
    """A folder for results.

    Complete results are ``results.json`` with a page and figures beside it; anything less goes into a folder ``partial`` inside, and never replaces them.

    Args:
        path: Made if it is not there.

    Raises:
        ValueError: It cannot be written to.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as temporary:
        ...     Folder(Path(temporary) / "bench").path.name
        'bench'
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as failure:
            reason = failure.strerror or failure
            raise ValueError(f"results cannot be written to '{self.path}': {reason}. Name another folder with --out.") from None

    def write(self, results: Mapping[str, Any]) -> list[Path]:
        """The files that were written."""
        where = self.path if results["complete"] else self.path / "partial"
        where.mkdir(exist_ok=True)
        data = where / "results.json"
        data.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        written = [data, *draw(results, where)]
        if results["complete"]:
            page = where / "README.md"
            page.write_text(readme(results), encoding="utf-8")
            written.append(page)
        return written


def read(path: Path) -> dict[str, Any]:
    """Results from a file.

    Raises:
        ValueError: There is none, or it holds something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise ValueError(f"'{path}' cannot be read as results: {failure}. Name a results.json that `retain bench` wrote.") from None
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise ValueError(f"'{path}' holds no results of this benchmark. Name a results.json that `retain bench` wrote.")
    return results
