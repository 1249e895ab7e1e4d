"""The work on one tile as a pure function that torch.compile can fuse: the same arithmetic as ``factored``, left to the compiler to differentiate."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader
from retain.core.rule import MemoryRule
from retain.core.shapes import Params

from .factored import Factors

Tile = tuple[Tensor, Tensor, Factors, list[Params]]


@cache
def compiled_tile(rule: MemoryRule) -> Callable[..., Tile]:
    """From (anchor, states, q, k, v, of_states, of_cells, next_states, next_cells) to outputs, losses, factors and the states behind the tile."""

    def tile(
        anchor: Params,
        states: list[Params],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        of_states: Tensor,
        of_cells: Tensor,
        next_states: Tensor,
        next_cells: Tensor,
    ) -> Tile:
        factors, loss = _capture(rule, anchor, k, v)
        y = rule.structure.read(_Sums(states, factors, of_states, of_cells), q)
        return y, loss, factors, _fold(states, factors, next_states, next_cells)

    return torch.compile(tile, dynamic=False)


class _Tapped(AbstractReader):
    """Reads plainly, with something added behind each weight, so that the gradient there can be asked for."""

    def __init__(self, params: Params, taps: dict[str, Tensor] | None = None) -> None:
        self.params, self.taps = params, taps
        self.inputs: dict[str, Tensor | None] = {}
        self.outputs: dict[str, Tensor] = {}
        self.vectors: set[str] = set()

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self._tap(name, x, x @ self.params[name])

    def scale(self, name: str, x: Tensor) -> Tensor:
        self.vectors.add(name)
        return self._tap(name, x, x * self.params[name].unsqueeze(-2))

    def shift(self, name: str, x: Tensor) -> Tensor:
        self.vectors.add(name)
        return self._tap(name, None, x + self.params[name].unsqueeze(-2))

    def _tap(self, name: str, x: Tensor | None, out: Tensor) -> Tensor:
        self.inputs[name] = x
        self.outputs[name] = out
        return out if self.taps is None else out + self.taps[name]


class _Sums(AbstractReader):
    """Reads at weights that are never written out, as ``DualReader`` does."""

    def __init__(self, states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor) -> None:
        self.states, self.factors, self.of_states, self.of_cells = states, factors, of_states, of_cells

    def linear(self, name: str, x: Tensor) -> Tensor:
        inputs, gradients = self.factors[name]
        out = ((x @ inputs.transpose(1, 2)) * self.of_cells) @ gradients
        for m, state in enumerate(self.states):
            share, narrow = self.of_states[..., m, None], x.shape[-1] <= gradients.shape[-1]
            out = out + ((x * share) @ state[name] if narrow else (x @ state[name]) * share)
        return out

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self._vector(name)

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self._vector(name)

    def _vector(self, name: str) -> Tensor:
        return self.of_cells @ self.factors[name][0] + self.of_states @ torch.stack([state[name] for state in self.states], dim=1)


def _capture(rule: MemoryRule, anchor: Params, k: Tensor, v: Tensor) -> tuple[Factors, Tensor]:
    probe = _Tapped(anchor)
    rule.structure.read(probe, k)  # for the shapes only: the compiler drops the rest

    def read(taps: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
        reader = _Tapped(anchor, taps)
        return rule.structure.read(reader, k), reader.inputs

    zeros = {name: torch.zeros_like(out) for name, out in probe.outputs.items()}
    y, pull, inputs = _vjp(read, zeros)
    (gradients,) = pull(rule.bias.grad(y, v))
    factors: dict[str, tuple[Tensor, ...]] = {}
    for name, d in gradients.items():
        x = inputs[name]
        if name in probe.vectors:
            factors[name] = (d if x is None else d * x,)
        else:
            factors[name] = (x, d)
    return factors, rule.bias.loss(y, v)


def _vjp(function: Callable[..., Any], at: dict[str, Tensor]) -> Any:
    return torch.func.vjp(function, at, has_aux=True)


def _fold(states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor) -> list[Params]:
    folded: list[dict[str, Tensor]] = [{} for _ in states]
    for name, parts in factors.items():
        for m, new in enumerate(folded):
            share = of_cells[:, m]
            if len(parts) == 1:
                total = (share.unsqueeze(1) @ parts[0]).squeeze(1)
            else:
                inputs, gradients = parts
                narrow = inputs.shape[-1] <= gradients.shape[-1]
                left, right = (inputs * share.unsqueeze(-1), gradients) if narrow else (inputs, gradients * share.unsqueeze(-1))
                total = left.transpose(1, 2) @ right
            for i in range(len(states)) if m == 0 else range(1, m + 1):
                old = states[i][name]
                total = total + of_states[:, m, i].reshape(-1, *(1,) * (old.ndim - 1)) * old
            new[name] = total
    return list(folded)
