"""The oracle: the rule's definition, token by token, with every gradient taken by autograd."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.core.trees import each, pick, stretch

from .coefficients import curvature_of
from .company import Company, place_of_query
from .stream import Joined, part_way, pending_after


@dataclass(frozen=True, kw_only=True)
class Recurrent(AbstractEngine):
    """Runs every rule, slowly: a loop over tokens and ``torch.func.grad``. It is what the other engines are judged by.

    Args:
        backprop: ``"full"`` lets gradients flow through every write; ``"segment"`` cuts them off at each boundary.

    Examples:
        >>> import torch
        >>> from retain import NeuralMemory, presets
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> fast = NeuralMemory(8, rule=presets.titans(update_every=4)).double()
        >>> slow = NeuralMemory(8, rule=presets.titans(update_every=4), engine=Recurrent()).double()
        >>> slow.load_state_dict(fast.state_dict())
        <All keys matched successfully>
        >>> x = torch.randn(1, 10, 8, dtype=torch.float64)
        >>> torch.allclose(fast(x)[0], slow(x)[0])
        True
    """

    name = "recurrent"
    backprop: Literal["full", "segment"] = "full"

    def refusal(self, rule: MemoryRule) -> str | None:
        return None

    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        joined = Joined.of(tokens, state, lengths)
        stream, clock, targets = joined.tokens, state.folded.clone(), joined.tokens.targets
        anchor, accumulator, moments = state.anchor, state.accumulator, state.moments
        update = each(torch.zeros_like, accumulator)
        curvature = stream.k.new_zeros(*stream.k.shape[:1], stream.k.shape[2], *stream.k.shape[-1:] * 2) if rule.learner.curved else None
        rates = stream.lr.new_zeros(state.batch, stream.lr.shape[2])  # summed over the step
        touched, written = torch.zeros(state.batch, dtype=torch.bool), torch.zeros_like(rates)
        queries = None if state.context is None else Company.of_queries(state.context)
        keys = None if queries is None else Company.of_keys(stream.k.sum(1), rule.step_every)
        outputs, surprises, every_row = [], [], torch.arange(state.batch)
        assert stream.q is not None
        for t in range(stream.time):
            real = joined.real[:, t]
            boundary = real & _divides(rule.update_every, clock)
            if bool(boundary.any()):
                anchor, accumulator, moments = self._move_anchor(rule, boundary, anchor, accumulator, moments)
            step = stream.of_step(lambda gate, t=t: gate[:, t])
            exposed = rule.retention.expose(anchor)
            own = rule.retention.gradient_point(exposed, step)
            last = (t + rule.step_every - 1 - clock % rule.step_every).clamp(max=stream.time - 1)  # of no account for a step that stays incomplete
            complete = stream.of_step(lambda gate, at=(every_row, last): gate[at])
            point = rule.gradient_point(exposed, complete, state.beside)
            k, v, lr = stream.k[:, t], targets[:, t], stream.lr[:, t]
            place, asked = clock % rule.step_every, place_of_query(rule, clock)
            if keys is not None and queries is not None:
                keys = keys.put(real, place, k, stream.seen[:, t])
                queries = queries.put(real & (t >= joined.before), asked, stream.q[:, t].unsqueeze(-2))
            surprises.append(rule.loss(_answer(rule, own, k, keys, place), v).sum(-1))
            if rule.reads == "before":
                outputs.append(_read(rule, rule.retention.read(accumulator, anchor), stream, t, queries, asked))
            writes = real & stream.written[:, t].cpu()
            share = lr if rule.learner.rates == "before" else torch.ones_like(lr)
            share = share if stream.share is None else share * stream.share[:, t]
            gradient = _gradient(rule, point, k, v, share, keys, place)
            update = pick(writes, each(torch.add, update, gradient), update)
            rates, written = rates + writes.to(rates)[:, None] * lr.sum(-1), written + writes.to(rates)[:, None] * lr.shape[-1]
            touched = touched | writes
            if curvature is not None:
                curvature = curvature + torch.where(stretch(writes, curvature), curvature_of(rule, k, share), torch.zeros_like(curvature))
            clock = clock + real
            fires = real & touched & (clock % rule.step_every == 0)
            if bool(fires.any()):
                step = replace(step, lr=rates / written.clamp(min=1), curvature=curvature)
                moved = rule.learner.accumulate(moments, update, step)
                moved_to = rule.retention.moved(accumulator, rule.learner.expose(moved, update, step), step)
                accumulator = pick(fires, moved_to, accumulator)
                moments = tuple(pick(fires, new, old) for new, old in zip(moved, moments, strict=True))
            ended = real & (clock % rule.step_every == 0)
            update = pick(ended, each(torch.zeros_like, update), update)
            touched = touched & ~ended
            curvature = None if curvature is None else torch.where(stretch(ended, curvature), torch.zeros_like(curvature), curvature)
            rates, written = (torch.where(ended.to(x.device)[:, None], torch.zeros_like(x), x) for x in (rates, written))
            if rule.anchor.transition == "gated":
                accumulator = pick(
                    real & _divides(rule.update_every, clock),
                    part_way(anchor, accumulator, None if stream.transition is None else stream.transition[:, t]),
                    accumulator,
                )
            if rule.reads == "after":
                crossed = real & _divides(rule.update_every, clock)
                weights = pick(crossed, rule.retention.expose(accumulator), rule.retention.read(accumulator, anchor))
                outputs.append(_read(rule, weights, stream, t, queries, asked))
        ended = _divides(rule.update_every, clock)
        if bool(ended.any()):
            anchor, accumulator, moments = self._move_anchor(rule, ended, anchor, accumulator, moments)
        after = replace(state, anchor=anchor, accumulator=accumulator, moments=moments, clock=clock)
        after = after if queries is None else replace(after, recent={**after.recent, "q": queries.tokens.squeeze(3)})
        after = replace(after, pending=pending_after(joined, clock % rule.step_every))
        return joined.new(outputs, like=stream.v[:, :, :, 0]), after, joined.new(surprises, like=stream.lr[:, :, :, 0])

    def _move_anchor(
        self, rule: MemoryRule, rows: Tensor, anchor: Params, accumulator: Params, moments: tuple[Params, ...]
    ) -> tuple[Params, Params, tuple[Params, ...]]:
        if self.backprop == "segment":
            accumulator, *rest = (pick(rows, each(torch.Tensor.detach, params), params) for params in (accumulator, *moments))
            moments = tuple(rest)
        return pick(rows, accumulator, anchor), accumulator, moments


def _divides(every: int | None, clock: Tensor) -> Tensor:
    return torch.zeros_like(clock, dtype=torch.bool) if every is None else (clock % every == 0) & (clock > 0)


def _answer(rule: MemoryRule, params: Params, x: Tensor, company: Company | None, place: Tensor) -> Tensor:
    """What the memory answers to a token ``x`` [batch, heads, pairs, width]: by itself, or at its place among its company."""
    return rule.structure.read(Plain(params), x) if company is None else company.read(rule, params, place)


def _gradient(rule: MemoryRule, point: Params, k: Tensor, v: Tensor, lr: Tensor, company: Company | None, place: Tensor) -> Params:
    def objective(weights: dict[str, Tensor]) -> Tensor:
        return (lr * rule.loss(_answer(rule, weights, k, company, place), v)).sum()

    return torch.func.grad(objective)(dict(point))


def _read(rule: MemoryRule, weights: Params, stream: Tokens, t: int, company: Company | None, place: Tensor) -> Tensor:
    assert stream.q is not None
    return _answer(rule, weights, stream.q[:, t].unsqueeze(-2), company, place).squeeze(-2)
