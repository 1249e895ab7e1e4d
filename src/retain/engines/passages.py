"""A long stretch of tiles, worked on in passages of which all but the last are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeAlias

import torch
from torch import Tensor

from retain.core.shapes import Params
from retain.core.tokens import Tokens
from retain.numerics import recompute

# What happens to (outputs [N, time, value], losses [N, time], anchor, states) over some tiles of tokens that begin at the first of them.
Run: TypeAlias = Callable[[range, Params, list[Params], Tokens], tuple[Tensor, Tensor, Params, list[Params]]]


def in_passages(
    run: Run, tiles: int, size: int, group: int, anchor: Params, states: list[Params], tokens: Tokens
) -> tuple[Tensor, Tensor, Params, list[Params]]:
    """``run`` over all tiles of ``size`` cells; where gradients are wanted and ``group`` is not 0, only boundary states are kept between passages."""
    span = group if group and torch.is_grad_enabled() else tiles
    outputs, losses = [], []
    for first in range(0, tiles, span):
        here = range(first, min(first + span, tiles))
        part = tokens.map(lambda x, a=here.start * size, b=here.stop * size: x[:, a:b])
        passage = _Passage(run, here, tuple(anchor), len(states), part)
        inputs = passage.pack(anchor, states, part)
        results = recompute(passage, *inputs) if here.stop < tiles else passage(*inputs)
        y, loss, anchor, states = passage.unpack(results)
        outputs.append(y)
        losses.append(loss)
    return torch.cat(outputs, dim=1), torch.cat(losses, dim=1), anchor, states


class _Passage:
    """A run as a function of tensors alone, so that it can be done again."""

    def __init__(self, run: Run, tiles: range, names: tuple[str, ...], states: int, tokens: Tokens) -> None:
        self.run, self.tiles, self.names, self.states = run, tiles, names, states
        self.fields = tuple(f.name for f in fields(tokens) if getattr(tokens, f.name) is not None)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        width = len(self.names) * (1 + self.states)
        _, _, anchor, states = self.unpack((inputs[0], inputs[0], *inputs[:width]))
        tokens = Tokens(**dict(zip(self.fields, inputs[width:], strict=True)))
        y, loss, anchor, states = self.run(self.tiles, anchor, states, tokens)
        return y, loss, *self._weights(anchor, states)

    def pack(self, anchor: Params, states: list[Params], tokens: Tokens) -> list[Tensor]:
        return [*self._weights(anchor, states), *(getattr(tokens, name) for name in self.fields)]

    def unpack(self, results: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Params, list[Params]]:
        y, loss, *weights = results
        width = len(self.names)
        parts = [dict(zip(self.names, weights[i : i + width], strict=True)) for i in range(0, len(weights), width)]
        return y, loss, parts[0], list(parts[1:])

    def _weights(self, anchor: Params, states: list[Params]) -> list[Tensor]:
        return [part[name] for part in (anchor, *states) for name in self.names]
