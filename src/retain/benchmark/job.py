"""Work for a process of its own, and the way there and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Literal

from .settings import Setting, Targets

Contender = Literal["ours", "peer", "attention"]
Phase = Literal["forward", "train", "stream"]

THREADS = 2
# A stream's peak is to show whether the stream grows. The GNU allocator keeps freed blocks of up to 32 MB in heaps whose holes come and go, by tens of
# MB over an hour; told to hand blocks of 1 MB back, at no cost in speed, it holds what is in use.
STEADY_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement in a fresh process.

    Args:
        contender: Who is measured.
        setting: The memory, and the tokens of a call.
        phase: A forward call, a train step, or a stream read call by call without gradients.
        tokens: Tokens of the stream.
        calls: At least this many calls; the first one counts for memory.
        seconds: Go on calling until this much time is spent.
    """

    contender: Contender
    setting: Setting
    phase: Phase
    tokens: int = 0
    calls: int = 1
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        fields = json.loads(text)
        setting = fields["setting"]
        return cls(**{**fields, "setting": Setting(**{**setting, "targets": Targets(**setting["targets"])})})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job measured.

    Args:
        peak_mb: Peak resident memory of the first call above what was resident before it.
        seconds: Of each call.
        exact: Whether the peak is the kernel's high-water mark, rather than sampled.
    """

    peak_mb: float
    seconds: tuple[float, ...]
    exact: bool


class JobFailed(Exception):
    """A measurement's process did not come back with a result."""


def run_apart(job: Job, timeout: float = 900.0) -> Outcome:
    """The outcome of a job in a process of its own.

    Args:
        job: What to measure.
        timeout: Seconds after which the process is ended.

    Raises:
        JobFailed: The process took too long, ran out of memory, or broke down.
    """
    command = [sys.executable, "-W", "ignore", "-m", "retain.benchmark.child", job.to_json()]
    what = f"the {job.phase} of {job.contender} in setting {job.setting.name} over {job.setting.time} tokens"
    surroundings = os.environ | (STEADY_HEAP if job.phase == "stream" else {})
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise JobFailed(f"{what} took longer than {timeout:.0f} s.") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise JobFailed(f"{what} ended with code {done.returncode}: {last[0]}. Cure: close other programs if it was killed for memory.")
    fields = json.loads(done.stdout.splitlines()[-1])
    return Outcome(peak_mb=fields["peak_mb"], seconds=tuple(fields["seconds"]), exact=fields["exact"])
