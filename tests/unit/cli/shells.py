"""The `retain` command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
RETAIN = [sys.executable, "-m", "retain"]


def environment(**more: str) -> dict[str, str]:
    """Variables that such a process begins with."""
    kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "RETAIN_MEMORY", "RETAIN_MEMORY_TOKEN"}}
    return {**kept, "PYTHONPATH": os.pathsep.join([f"{ROOT}/src", str(ROOT)]), "OMP_NUM_THREADS": "1", **more}


def started(*words: str, env: dict[str, str] | None = None, **how: Any) -> subprocess.Popen[str]:
    """It, with pipes for whatever is not said otherwise."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*RETAIN, *words], text=True, env=environment(**(env or {})), **{**pipes, **how})
