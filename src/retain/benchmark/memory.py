"""Peak memory: what a call adds to the resident memory of its process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MB = 2**20


class Peak:
    """The highest resident memory inside a ``with`` block, above what was resident just before it.

    Linux keeps the high-water mark of a process and lets it be set back; elsewhere a thread samples every millisecond, and may miss a short peak.
    Memory that the allocator holds free is given back first, so that nothing in the block is served from it unseen.

    Examples:
        >>> import torch
        >>> with Peak() as peak:
        ...     _ = torch.ones(4_000_000)
        >>> 14 < peak.mb < 40
        True
    """

    def __init__(self) -> None:
        self.exact = _can_reset()
        self.mb = 0.0
        self._base = self._top = 0
        self._over = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> Peak:
        gc.collect()
        _give_back()
        self._base = self._top = _resident()
        if self.exact:
            _RESET.write_text("5")
        else:
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler is not None:
            self._over.set()
            self._sampler.join()
        top = _high_water() if self.exact else max(self._top, _resident())
        self.mb = max(0, top - self._base) / _MB

    def _sample(self) -> None:
        while not self._over.is_set():
            self._top = max(self._top, _resident())
            time.sleep(0.001)


def _resident() -> int:
    import psutil  # of the extra `bench`, which the command line does without

    return psutil.Process().memory_info().rss


def _high_water() -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _can_reset() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return "VmHWM:" in _STATUS.read_text()


def _give_back() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
