"""Time, taken in turns: whatever slows the machine down slows all contenders down alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

SGEMM_WIDTH = 2048
TURN = 0.2  # seconds that a turn lasts at least: a short call is repeated, and its mean taken

Watch = Callable[[float, str], None]
"""Is told how far a measurement is: a share from 0 to 1, and what is being done."""


@dataclass(frozen=True)
class Times:
    """Seconds of the same call, again and again.

    Examples:
        >>> Times((3.0, 1.0, 2.0)).median
        2.0
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def rates(self, amount: float) -> dict[str, float]:
        """``amount`` per second: median, slowest and fastest."""
        return {"median": amount / self.median, "min": amount / max(self.seconds), "max": amount / min(self.seconds)}


def in_turns(contenders: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int, watch: Watch, turn: float = TURN) -> dict[str, Times]:
    """Call each contender in turn, ``repeats`` times round, after ``warm_ups`` rounds that do not count.

    In its turn a contender is called until ``turn`` seconds are over, so that a short call is not all first touches after another's long one.

    Args:
        contenders: Calls by name.
        repeats: Rounds that count.
        warm_ups: Rounds that do not.
        watch: Is told of each turn.
        turn: Seconds.

    Returns:
        Seconds a call, one number a round, by name.

    Examples:
        >>> times = in_turns({"one": lambda: 1, "two": lambda: 2}, 3, 1, lambda done, note: None, turn=0.0)
        >>> [len(t.seconds) for t in times.values()]
        [3, 3]
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    turns, done = len(contenders) * (repeats + warm_ups), 0
    for lap in range(repeats + warm_ups):
        for name, call in contenders.items():
            watch(done / turns, name if lap >= warm_ups else f"{name}, warm-up")
            gc.collect()
            calls, taken, start = 0, 0.0, time.perf_counter()
            while not calls or taken < turn:
                call()
                calls, taken = calls + 1, time.perf_counter() - start
            if lap >= warm_ups:
                seconds[name].append(taken / calls)
            done += 1
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def sgemm() -> Callable[[], object]:
    """A float32 product of two square matrices, as the measure of what this machine can do."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(SGEMM_WIDTH, SGEMM_WIDTH, generator=generator) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


SGEMM_FLOPS = 2 * SGEMM_WIDTH**3


def forward(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """A forward call that keeps nothing for a backward one."""

    def call() -> object:
        with torch.no_grad():
            return layer(x)

    return call


def train_step(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """A forward and a backward call for the mean square of the output. No optimizer: it would be the same for both."""

    def call() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x)[0].square().mean().backward()

    return call
