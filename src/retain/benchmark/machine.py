"""Where and with what a measurement was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .job import THREADS
from .peer import PEER


def surroundings(command: str) -> dict[str, Any]:
    """Machine, versions, commit, command and date."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(_memory_gb(), 1),
            "system": platform.system(),
            "load_at_start": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "retain": version("retain"), PEER: version(PEER)},
        "threads": THREADS,
        "dtype": "float32",
        "batch": 1,
    }


def commit() -> str:
    """The commit of the source that runs, with a plus sign if it was changed since; a word if it is not under version control."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    import psutil  # of the extra `bench`, which the command line does without

    return psutil.virtual_memory().total / 2**30
