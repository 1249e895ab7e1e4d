"""What a run ran on, and how much memory it took."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """The memory that the process occupies now; None where the system does not tell it under /proc.

    It is the present size, unlike ``ru_maxrss``, which never goes down and so could not show that memory is flat.
    """
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def return_freed_memory() -> None:
    """Let the C library hand memory that was freed back to the system, where it can, so that what training left behind is not counted as reading's."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def machine() -> dict[str, Any]:
    """Versions, cores and date: what a number must be read with."""
    return {
        "retain": version("retain"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
