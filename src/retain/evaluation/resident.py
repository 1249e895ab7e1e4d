"""The memory that this process occupies, where Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path

STATUS, CLEAR, STATM = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/self/statm")


class Resident:
    """The most memory that the process occupies inside a ``with`` block, in bytes; None where the system does not tell.

    Linux keeps the high-water mark of a process and lets it be set back. Where it may not be set back, ``look`` must be called where the peak may be.

    Examples:
        >>> with Resident() as resident:
        ...     resident.look()
        >>> resident.before is None or 0 < resident.before <= resident.peak
        True
    """

    def __init__(self) -> None:
        self.before: int | None = None
        self.peak: int | None = None
        self._marked = False

    def __enter__(self) -> Resident:
        self.before = self.peak = _present()
        self._marked = _set_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        mark = _high_water() if self._marked else None
        if mark is not None and self.peak is not None:
            self.peak = max(self.peak, mark)

    def look(self) -> None:
        """Take note of what is occupied now."""
        now = _present()
        if now is not None and self.peak is not None:
            self.peak = max(self.peak, now)


def _present() -> int | None:
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _high_water() -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _set_back() -> bool:
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True
