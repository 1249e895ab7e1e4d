"""Gradients as factors: of a linear map, (its inputs, the gradients at its outputs). Taken together at one anchor, never multiplied out for a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks, saved_tensors_hooks

from retain.core.contracts import AbstractBoundaryRetention, AbstractReader
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.numerics import recompute, twice_differentiable
from retain.numerics.any_order import wants_any_order

# Legend, here and in the engines that import this file: N memories (batch x heads), C cells that write (tokens x pairs), Q queries, M states (the
# accumulator, then the moments), I and O the input and output width of a linear map.
Factors = Mapping[str, tuple[Tensor, ...]]  # (inputs [N, C, I], output gradients [N, C, O]) of a matrix, (gradients [N, C, O],) of a vector


def capture(rule: MemoryRule, anchor: Params, k: Tensor, v: Tensor) -> tuple[Factors, Tensor]:
    """The gradient of every cell's loss at the anchor, in factors, and the loss itself [N, C].

    ``k`` is [N, C, key], ``v`` their targets [N, C, value or one more].
    """
    if torch.is_inference_mode_enabled():  # whose tensors no gradient can be taken of; copies of them are ordinary tensors
        with torch.inference_mode(False), torch.no_grad():
            return capture(rule, {name: w.clone() for name, w in anchor.items()}, k.clone(), v.clone())
    if not _saving_is_watched() or wants_any_order():
        return _captured(rule, anchor, k, v)
    shape: dict[str, int] = {}

    def apart(k: Tensor, v: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        with saved_tensors_hooks(_as_it_is, _as_it_is):
            factors, loss = _captured(rule, dict(zip(anchor, weights, strict=True)), k, v)
        shape.update({name: len(parts) for name, parts in factors.items()})
        return (*(part for parts in factors.values() for part in parts), loss)

    *parts, loss = recompute(apart, k, v, *anchor.values())
    each = iter(parts)
    return {name: tuple(next(each) for _ in range(count)) for name, count in shape.items()}, loss


def _captured(rule: MemoryRule, anchor: Params, k: Tensor, v: Tensor) -> tuple[Factors, Tensor]:
    through = torch.is_grad_enabled() and any(t.requires_grad for t in (k, v, *anchor.values()))
    with torch.enable_grad():
        if not through:
            anchor = {name: w.detach() for name, w in anchor.items()}
        reader = _Recorder(anchor, through)
        y = rule.structure.read(reader, k if through else k.detach())
        slope = rule.slope(y if through else y.detach(), v)
        gradients = torch.autograd.grad(y, [out for _, out in reader.taps.values()], slope, create_graph=through)
    factors: dict[str, tuple[Tensor, ...]] = {}
    for (name, (x, _)), d in zip(reader.taps.items(), gradients, strict=True):
        if name in reader.vectors:
            factors[name] = (d if x is None else d * x if through else d * x.detach(),)
        else:
            assert x is not None
            factors[name] = (x if through else x.detach(), d)
    return factors, rule.loss(y if through else y.detach(), v)


def _saving_is_watched() -> bool:
    """Whether somebody is told what is saved for the backward pass, as checkpoints of activations are, which run all again when the first of it is asked for.

    Here that is when gradients are taken, in the midst of the forward pass.
    """
    try:
        with disable_saved_tensors_hooks("hooks are in use"):
            return False
    except RuntimeError:
        return True


def _as_it_is(x: Tensor) -> Tensor:
    return x


def scaled(factors: Factors, scales: Tensor | None) -> Factors:
    """The factors with the gradients of each weight, in alphabetical order, multiplied by the ``scales`` of their cells [N, C, weights]."""
    if scales is None:
        return factors
    return {name: (*parts[:-1], parts[-1] * scales[..., i, None]) for i, (name, parts) in enumerate(sorted(factors.items()))}


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

    def activate(self, name: str, x: Tensor) -> Tensor:
        return twice_differentiable(name)(x)

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
        times: What each weight is multiplied by in the end; None means nothing.
    """

    def __init__(self, states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor, times: Params | None = None) -> None:
        self.states, self.factors, self.of_states, self.of_cells, self.times = states, factors, of_states, of_cells, times

    def linear(self, name: str, x: Tensor) -> Tensor:
        x = x if self.times is None else x * self.times[name]
        return _DualLinear.apply(x, self.of_states, self.of_cells, *self.factors[name], *(state[name] for state in self.states))

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self._vector(name)

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self._vector(name)

    def activate(self, name: str, x: Tensor) -> Tensor:
        return twice_differentiable(name)(x)

    def _vector(self, name: str) -> Tensor:
        vector = self.of_cells @ self.factors[name][0] + self.of_states @ torch.stack([state[name] for state in self.states], dim=1)
        return vector if self.times is None else vector * self.times[name].unsqueeze(-2)


def read_at(rule: MemoryRule, anchor: Params, reader: DualReader, q: Tensor) -> Tensor:
    """What a memory answers between boundaries: at the weights of the reader, as its retention, which exposed ``anchor`` at the last one, reads them."""
    if not isinstance(rule.retention, AbstractBoundaryRetention):
        return rule.structure.read(reader, q)
    frozen = rule.retention.frozen(anchor, lead=1)
    if frozen is None:
        return rule.structure.read(Plain(rule.retention.expose(anchor, lead=1)), q)
    return rule.structure.read(DualReader(reader.states, reader.factors, reader.of_states, reader.of_cells, frozen), q)


class _DualLinear(torch.autograd.Function):
    """``x_t @ W_t`` as two kinds of products: with the states, and attention over the cells. The scores are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, of_states: Tensor, of_cells: Tensor, inputs: Tensor, gradients: Tensor, *states: Tensor) -> Tensor:
        ctx.narrow = x.shape[-1] <= gradients.shape[-1]  # coefficients multiply the narrower side
        ctx.autocast = _autocast(x)
        out = torch.bmm(torch.bmm(x, inputs.transpose(1, 2)).mul_(of_cells), gradients)
        read: list[Tensor] = []
        for m, state in enumerate(states):
            share = of_states[..., m, None]
            if ctx.narrow:
                out = _add_product(out, x * share, state)
            else:
                read.append(torch.bmm(x, state))
                out = out.addcmul_(read[-1], share.to(out.dtype))
        ctx.save_for_backward(x, of_states, of_cells, inputs, gradients, *states, *read)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, of_states, of_cells, inputs, gradients, *rest = ctx.saved_tensors
        states, read = rest[: of_states.shape[-1]], rest[of_states.shape[-1] :]
        if torch.is_grad_enabled():  # what was kept of the forward pass is a constant to the gradient of this gradient
            read = [torch.bmm(x, state) for state in states]
        grad = grads[0]
        kind, dtype, enabled = ctx.autocast
        with torch.autocast(kind, dtype=dtype, enabled=enabled):
            scores = torch.bmm(x, inputs.transpose(1, 2))
            along = torch.bmm(grad, gradients.transpose(1, 2))
            to_gradients = torch.bmm((scores * of_cells).transpose(1, 2), grad)
            to_cells = scores * along
            along = along * of_cells
            to_inputs = torch.bmm(along.transpose(1, 2), x)
            to_x = torch.bmm(along, inputs)
            to_states, of_each = [], []
            for m, state in enumerate(states):
                share = of_states[..., m, None]
                if ctx.narrow:
                    back = torch.bmm(grad, state.transpose(1, 2))
                    of_each.append((back * x).sum(-1))
                    to_x = torch.addcmul(to_x, back, share.to(back.dtype))
                    to_states.append(torch.bmm((x * share).transpose(1, 2), grad))
                else:
                    part = grad * share
                    of_each.append((grad * read[m]).sum(-1))
                    to_x = _add_product(to_x, part, state.transpose(1, 2))
                    to_states.append(torch.bmm(x.transpose(1, 2), part))
        return to_x, torch.stack(of_each, dim=-1), to_cells, to_inputs, to_gradients, *to_states


def fold(states: list[Params], factors: Factors, of_states: Tensor, of_cells: Tensor) -> list[Params]:
    """The states after the cells: row m of ``of_states`` [N, M, M] and ``of_cells`` [N, M, C] says what state m is made of."""
    folded: list[dict[str, Tensor]] = [{} for _ in states]
    for name, parts in factors.items():
        olds = [state[name] for state in states]
        if len(parts) == 1:
            with torch.autocast(of_cells.device.type, enabled=False):
                sums = of_cells @ parts[0].to(of_cells.dtype) + of_states @ torch.stack(olds, dim=1)
            news: tuple[Tensor, ...] = sums.unbind(1)
        else:
            news = _Fold.apply(of_states, of_cells, *parts, *olds)
        for new, tensor in zip(folded, news, strict=True):
            new[name] = tensor
    return list(folded)


class _Fold(torch.autograd.Function):
    """The states of one matrix after the cells. State 0 may depend on all states, a moment on the moments up to its own."""

    @staticmethod
    def forward(ctx: Any, of_states: Tensor, of_cells: Tensor, inputs: Tensor, gradients: Tensor, *olds: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(of_states, of_cells, inputs, gradients, *olds)
        ctx.autocast = _autocast(inputs)
        narrow, news = inputs.shape[-1] <= gradients.shape[-1], []
        for m, used in enumerate(_uses(len(olds))):
            share = of_cells[:, m, :, None]
            left, right = (inputs * share, gradients) if narrow else (inputs, gradients * share)
            total = olds[used[0]] * of_states[:, m, used[0], None, None]
            for i in used[1:]:
                total.addcmul_(olds[i], of_states[:, m, i, None, None])
            news.append(_add_product(total, left.transpose(1, 2), right))
        return tuple(news)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_cells, inputs, gradients, *olds = ctx.saved_tensors
        narrow = inputs.shape[-1] <= gradients.shape[-1]
        to_olds: list[Tensor | None] = [None] * len(olds)
        to_inputs: Tensor | None = None
        to_gradients: Tensor | None = None
        rows, of_each = [], []
        kind, dtype, enabled = ctx.autocast
        with torch.autocast(kind, dtype=dtype, enabled=enabled):
            for m, used in enumerate(_uses(len(olds))):
                grad, share = grads[m], of_cells[:, m, :, None]
                row = [torch.zeros_like(of_states[:, 0, 0])] * len(olds)
                for i in used:
                    coefficient = of_states[:, m, i, None, None]
                    row[i] = (grad * olds[i]).sum((1, 2))
                    before = to_olds[i]
                    to_olds[i] = grad * coefficient if before is None else torch.addcmul(before, grad, coefficient)
                rows.append(torch.stack(row, dim=-1))
                if narrow:
                    back = torch.bmm(gradients, grad.transpose(1, 2))
                    of_each.append((back * inputs).sum(-1))
                    to_inputs = _add(to_inputs, back * share)
                    to_gradients = _plus_product(to_gradients, inputs * share, grad)
                else:
                    back = torch.bmm(inputs, grad)
                    of_each.append((back * gradients).sum(-1))
                    to_gradients = _add(to_gradients, back * share)
                    to_inputs = _plus_product(to_inputs, gradients * share, grad.transpose(1, 2))
        return torch.stack(rows, dim=1), torch.stack(of_each, dim=1), to_inputs, to_gradients, *to_olds


def _uses(states: int) -> list[list[int]]:
    return [list(range(states)), *(list(range(1, m + 1)) for m in range(1, states))]


def _autocast(x: Tensor) -> tuple[str, torch.dtype, bool]:
    kind = x.device.type
    return kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)


def _add(total: Tensor | None, x: Tensor) -> Tensor:
    return x if total is None else total + x


def _plus_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b) if total is None else _add_product(total, a, b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``total + a @ b``, in place where nobody can notice."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled(total.device.type):
        return total + torch.bmm(a, b)
    return total.baddbmm_(a, b)
