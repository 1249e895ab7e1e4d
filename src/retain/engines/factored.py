"""Gradients as factors: of a linear map, (its inputs, the gradients at its outputs). Taken together at one anchor, never multiplied out for a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader
from retain.core.rule import MemoryRule
from retain.core.shapes import Params

# Legend, here and in the engines that import this file: N memories (batch x heads), C cells that write (tokens x pairs), Q queries, M states (the
# accumulator, then the moments), I and O the input and output width of a linear map.
Factors = Mapping[str, tuple[Tensor, ...]]  # (inputs [N, C, I], output gradients [N, C, O]) of a matrix, (gradients [N, C, O],) of a vector


def capture(rule: MemoryRule, anchor: Params, k: Tensor, v: Tensor) -> tuple[Factors, Tensor]:
    """The gradient of every cell's loss at the anchor, in factors, and the loss itself [N, C]. ``k`` is [N, C, key], ``v`` [N, C, value]."""
    through = torch.is_grad_enabled() and any(t.requires_grad for t in (k, v, *anchor.values()))
    with torch.enable_grad():
        if not through:
            anchor = {name: w.detach() for name, w in anchor.items()}
        reader = _Recorder(anchor, through)
        y = rule.structure.read(reader, k if through else k.detach())
        slope = rule.bias.grad(y if through else y.detach(), v)
        gradients = torch.autograd.grad(y, [out for _, out in reader.taps.values()], slope, create_graph=through)
    factors: dict[str, tuple[Tensor, ...]] = {}
    for (name, (x, _)), d in zip(reader.taps.items(), gradients, strict=True):
        if name in reader.vectors:
            factors[name] = (d if x is None else d * x if through else d * x.detach(),)
        else:
            assert x is not None
            factors[name] = (x if through else x.detach(), d)
    return factors, rule.bias.loss(y if through else y.detach(), v)


class _Recorder(AbstractReader):
    """Reads plainly and remembers, for each weight, what went in and what came out."""

    def __init__(self, params: Params, through: bool) -> None:
        self.params = params
        self.through = through
        self.taps: dict[str, tuple[Tensor | None, Tensor]] = {}
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
        if name in self.taps:
            raise ValueError(f"the structure reads its weight {name!r} twice; the fast engines need one use of each weight. Use engine='recurrent'.")
        if not out.requires_grad:
            out.requires_grad_()
        self.taps[name] = (x, out)
        return out


class DualReader(AbstractReader):
    """Reads at weights that are never written out: $W_t = \\sum_m s_{t,m} \\mathrm{state}_m + \\sum_c w_{t,c}\\, \\mathrm{gradient}_c$.

    Args:
        states: The accumulator, then the moments, each [N, ...].
        factors: Gradients of the C cells.
        of_states: $s$ [N, Q, M].
        of_cells: $w$ [N, Q, C].
    """

    def __init__(self, states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor) -> None:
        self.states, self.factors, self.of_states, self.of_cells = states, factors, of_states, of_cells

    def linear(self, name: str, x: Tensor) -> Tensor:
        inputs, gradients = self.factors[name]
        return _DualLinear.apply(x, self.of_states, self.of_cells, inputs, gradients, *(state[name] for state in self.states))

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self._vector(name)

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self._vector(name)

    def _vector(self, name: str) -> Tensor:
        return self.of_cells @ self.factors[name][0] + self.of_states @ torch.stack([state[name] for state in self.states], dim=1)


class _DualLinear(torch.autograd.Function):
    """``x_t @ W_t`` as two kinds of products: with the states, and attention over the cells. Saves nothing but its inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, of_states: Tensor, of_cells: Tensor, inputs: Tensor, gradients: Tensor, *states: Tensor) -> Tensor:
        ctx.save_for_backward(x, of_states, of_cells, inputs, gradients, *states)
        kind = x.device.type
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        scores = torch.bmm(x, inputs.transpose(1, 2)).mul_(of_cells)
        out = torch.bmm(scores, gradients)
        for m, state in enumerate(states):
            out = _add_product(out, x * of_states[..., m, None], state)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, of_states, of_cells, inputs, gradients, *states = ctx.saved_tensors
        kind, dtype, enabled = ctx.autocast
        with torch.autocast(kind, dtype=dtype, enabled=enabled):
            scores = torch.bmm(x, inputs.transpose(1, 2))
            along = torch.bmm(grad, gradients.transpose(1, 2))
            to_gradients = torch.bmm((scores * of_cells).transpose(1, 2), grad)
            to_cells = scores * along
            along = along * of_cells
            to_x = torch.bmm(along, inputs)
            to_inputs = torch.bmm(along.transpose(1, 2), x)
            to_states, of_each = [], []
            for m, state in enumerate(states):
                share = of_states[..., m, None]
                back = torch.bmm(grad, state.transpose(1, 2))
                of_each.append((back * x).sum(-1))
                to_x = to_x + back * share
                to_states.append(torch.bmm((x * share).transpose(1, 2), grad))
        return to_x, torch.stack(of_each, dim=-1), to_cells, to_inputs, to_gradients, *to_states


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``total + a @ b``, in place where nobody can notice."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled(total.device.type):
        return torch.baddbmm(total, a, b)
    return total.baddbmm_(a, b)


def fold(states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor) -> list[Params]:
    """The states after the cells: row m of ``of_states`` [N, M, M] and ``of_cells`` [N, M, C] says what state m is made of."""
    folded: list[dict[str, Tensor]] = [{} for _ in states]
    for name, parts in factors.items():
        olds = [state[name] for state in states]
        for m, new in enumerate(folded):
            new[name] = _fold_one(m, olds, parts, of_states[:, m], of_cells[:, m])
    return list(folded)


def _fold_one(m: int, olds: list[Tensor], parts: tuple[Tensor, ...], of_states: Tensor, of_cells: Tensor) -> Tensor:
    if len(parts) == 1:
        return _weighted(m, olds, of_states) + torch.einsum("nc,nco->no", of_cells, parts[0])
    inputs, gradients = parts
    narrow = inputs.shape[-1] <= gradients.shape[-1]  # the weights of the cells go where they cost least
    left = inputs * of_cells.unsqueeze(-1) if narrow else inputs
    right = gradients if narrow else gradients * of_cells.unsqueeze(-1)
    return _add_product(_weighted(m, olds, of_states), left.transpose(1, 2), right)


def _weighted(m: int, olds: list[Tensor], of_states: Tensor) -> Tensor:
    """The sum of the old states that state m may depend on: the accumulator on all, a moment on the moments up to its own."""
    used = range(len(olds)) if m == 0 else range(1, m + 1)
    total: Tensor | None = None
    for i in used:
        share = of_states[:, i].reshape(-1, *(1,) * (olds[i].ndim - 1))
        total = olds[i] * share if total is None else torch.addcmul(total, olds[i], share)
    assert total is not None
    return total
