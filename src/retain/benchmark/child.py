"""One measurement in a process of its own: ``python -m retain.benchmark.child JOB`` writes its outcome, as JSON, to the standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention
from .job import THREADS, Job, Outcome
from .memory import Peak
from .ours import Ours, weights
from .peer import build_peer, copy_into_peer
from .timing import forward, train_step


def main(text: str) -> str:
    """The outcome of a job, both in JSON."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    job = Job.from_json(text)
    _wake_torch()
    outcome = _stream(job) if job.phase == "stream" else _call(job)
    return json.dumps(asdict(outcome))


def _wake_torch() -> None:
    """Let torch load what it loads at a first call (threads, kernels, the backward engine), so that no contender pays for it."""
    x = torch.randn(2, 64, 64, requires_grad=True)
    F.layer_norm(F.gelu(x @ x), (64,)).square().mean().backward()


def _layer(job: Job) -> tuple[nn.Module, torch.Tensor]:
    setting = job.setting
    if job.contender == "attention":
        return Attention(setting.dim), torch.randn(1, setting.time, setting.dim)
    drawn, x = weights(setting)
    if job.contender == "ours":
        layer = Ours().build(setting)
        layer.load_state_dict(drawn)
        return layer, x
    peer = build_peer(setting)
    copy_into_peer(drawn, peer)
    return peer, x


def _call(job: Job) -> Outcome:
    layer, x = _layer(job)
    call = (train_step if job.phase == "train" else forward)(layer, x)
    with Peak() as peak:
        seconds = [_timed(call)]
    while len(seconds) < job.calls or sum(seconds) < job.seconds:
        seconds.append(_timed(call))
    return Outcome(peak_mb=peak.mb, seconds=tuple(seconds), exact=peak.exact)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _stream(job: Job) -> Outcome:
    """Tokens come fresh for each call; drawing them is not timed."""
    layer, _ = _layer(job)
    seconds: list[float] = []
    with Peak() as peak, torch.no_grad():
        state, left = None, job.tokens
        while left:
            x = torch.randn(1, min(left, job.setting.time), job.setting.dim)
            start = time.perf_counter()
            _, state = layer(x, state)
            seconds.append(time.perf_counter() - start)
            left -= x.shape[1]
    return Outcome(peak_mb=peak.mb, seconds=tuple(seconds), exact=peak.exact)


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")
