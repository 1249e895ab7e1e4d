"""Weights in shards, where a layer's gradient comes by way of its memory alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from retain.retrofit import branches_of
from retain.retrofit.reading import Reading, Watcher

Gather = Callable[[Tensor], None]


def gather_for_states(layers: nn.ModuleList) -> None:
    """Have the weights of each layer gathered when a gradient of its memory arrives there: of its state, or of how open its gates stood.

    FSDP gathers them when the gradient of what a layer says does. Of a page that is read nothing goes on but what is in memory, so that this never comes, and
    the backward pass finds weights of no size.

    Args:
        layers: Those of a decoder, each of them and each branch a unit of ``fully_shard``.
    """
    for layer in layers:
        for branch in branches_of(layer):
            gather = _gathering(layer, branch)
            branch.register_forward_pre_hook(_before(gather))
            branch.register_forward_hook(_behind(gather))


class _Gathered:
    """A watcher whose gradients find the weights of a layer gathered."""

    def __init__(self, inner: Watcher, gather: Gather) -> None:
        self.inner, self.gather, self.margin = inner, gather, inner.margin

    def see(self, number: int, reading: Reading, gate: Tensor, openness: Tensor, surprise: Tensor, said: Tensor) -> None:
        if openness.requires_grad:
            openness.register_hook(self.gather)
        self.inner.see(number, reading, gate, openness, surprise, said)


def _gathering(*units: Any) -> Gather:
    def gather(_: Tensor) -> None:
        for unit in units:
            unit.unshard()

    return gather


def _before(gather: Gather) -> Callable[..., None]:
    def hook(branch: Any, given: tuple[Any, ...]) -> None:
        reading = given[2]
        if reading.watcher is not None:
            inner = reading.watcher.inner if isinstance(reading.watcher, _Gathered) else reading.watcher
            reading.watcher = _Gathered(inner, gather)

    return hook


def _behind(gather: Gather) -> Callable[..., None]:
    def hook(branch: Any, given: tuple[Any, ...], out: Tensor) -> None:
        for _, tensor in given[2].after[branch.number].tensors():
            if tensor.requires_grad:
                tensor.register_hook(gather)

    return hook
