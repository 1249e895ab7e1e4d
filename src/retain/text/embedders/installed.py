"""Files that come with an installed package, found without running any of its code."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from retain.text.errors import EmbedderMissing


def files_of(package: str, cure: str) -> list[Path]:
    """Every file that a package brought along.

    Raises:
        EmbedderMissing: The package is not installed.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise EmbedderMissing(f"the package {package} is not installed, and this embedder's weights are in it. Cure: {cure}") from None
    return [Path(str(found.locate_file(file))) for file in found.files or []]
