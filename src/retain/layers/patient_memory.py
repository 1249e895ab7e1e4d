"""A memory that looks at what it is to learn when a step is complete, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from retain.core.errors import StateMismatch
from retain.core.reader import Plain
from retain.core.shapes import Stream
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.core.trees import each
from retain.engines import answered
from retain.numerics.ragged import gather, join, trim

from .neural_memory import NeuralMemory
from .rows import Given, check_batch, check_stream

KEYS, VALUES, SILENT, EMPHASIS = (f"waiting_{what}" for what in ("keys", "values", "silent", "emphasis"))


class PatientMemory(NeuralMemory):
    """A ``NeuralMemory`` of the same weights, answers and gradients whose state keeps the tokens of an unfinished step as they came.

    Keys, values, gates and gradients are made of them all at once when the step is complete. Until then a token costs its query and one read, which makes
    decoding cheap where steps are long. A rule whose steps are not whole segments of many tokens leaves little to wait for; nor is it waited where tokens
    that are read together see each other, where a step reaches back over those before it, or where another memory stands beside: such memories run as a
    ``NeuralMemory`` does. States of the two classes are not to be exchanged.

    Examples:
        >>> from retain.memory import presets
        >>> memory = PatientMemory(8, rule=presets.titans(update_every=4, step_every=4))
        >>> x = torch.randn(1, 6, 8)
        >>> whole, state = memory(x)
        >>> state.waiting["waiting_keys"].shape, state.pending
        (torch.Size([1, 2, 8]), None)
        >>> plain = NeuralMemory(8, rule=memory.rule)
        >>> _ = plain.load_state_dict(memory.state_dict())
        >>> torch.allclose(plain(x)[0], whole, atol=1e-6)
        True
    """

    def __init__(self, dim: int, **described: Any) -> None:
        super().__init__(dim, **described)
        rule = self.rule
        self.waits = 1 < rule.step_every == rule.update_every and rule.bias.window == 1 and not rule.bias.transposed and not rule.learner.in_turn
        self.waits = self.waits and rule.anchor.residual == "none" and not rule.structure.company(dict(self.initial))
        self.waits = self.waits and self.projections.projections.values == "same"

    def start(self, batch: int) -> MemoryState:
        state = super().start(batch)
        if not self.waits:
            return state
        return replace(state, buffers={**self._tails(batch), KEYS: self.gates.weight.new_zeros(batch, 0, self.dim)})

    def forward(self, x: Stream, state: MemoryState | None = None, **asked: Any) -> tuple[Tensor, MemoryState, Unpack[tuple[Any, ...]]]:
        store = asked.get("store")
        if state is None or not self.waits or any(value is not None and value is not False for name, value in asked.items() if name != "store"):
            return super().forward(x, state, **asked)
        places = state.buffers[KEYS].shape[1] if KEYS in state.buffers else self.rule.step_every
        alike = len(state.clock) == 1 or bool((state.clock == state.clock[0]).all())
        if places + x.shape[1] >= self.rule.step_every or not alike:
            return super().forward(x, state, **asked)
        return self._glance(x, state, store if isinstance(store, tuple) else (x, x) if store is None else (store, store))

    def _glance(self, x: Tensor, state: MemoryState, store: tuple[Tensor, Tensor]) -> tuple[Tensor, MemoryState]:
        """What ``forward`` says of tokens none of which completes a step, in rows that stand at one place: nearly nothing, and with as little ado."""
        check_stream(x, self.dim)
        check_batch(state.batch, x.shape[0])
        view = self.projections.view(x)
        q, tail = self.projections.queries(view, state.buffers.get("asked"), None)
        weights = self.rule.retention.read(state.accumulator, state.anchor)
        y = self.rule.structure.read(Plain(weights), q.to(next(iter(weights.values())).dtype).transpose(1, 2)).transpose(1, 2)
        new, old = _waiting_of(Given(x, *store, state.clock, None, None)), state.waiting
        waiting = {name: torch.cat([_of(old, name, new), _of(new, name, old)], dim=1) for name in {**old, **new}}
        buffers = {**state.buffers, **waiting, **({} if tail is None else {"asked": tail})}
        return self.output(y, view), replace(state, clock=state.clock + x.shape[1], buffers=buffers)

    def settle(self, state: MemoryState) -> MemoryState:
        counts = state.clock % self.rule.step_every
        if not self.waits or not bool(counts.any()):
            return super().settle(state)
        tokens, boundary, tails = self._learnt(state, counts, state.waiting, counts, counts)
        lastly = super().settle(self.engine.run(self.rule, tokens, boundary, counts)[1])
        return replace(lastly, buffers={**_looked_at(state.buffers), **tails, KEYS: state.buffers[KEYS][:, :0]})

    def _checked(self, state: MemoryState | None, batch: int) -> MemoryState:
        state = super()._checked(state, batch)
        if self.waits and KEYS not in state.buffers:
            raise StateMismatch(
                "the state is one of a NeuralMemory, which looks at its tokens at once. Cure: go on from a state of this PatientMemory."
            )
        return state

    def _tails(self, batch: int) -> dict[str, Tensor]:
        tail = self.projections.tail(batch)
        if tail is None:
            return {}
        inner = self.projections.to_q.out_features
        return {"asked": tail[..., :inner], "tail": tail[..., inner:]}

    def _advance(self, given: Given, before: MemoryState, write: bool, surprises: bool) -> tuple[Tensor, Tensor, MemoryState, Tensor]:
        if not self.waits:
            return super()._advance(given, before, write, surprises)
        rule, exact = self.rule, next(iter(before.accumulator.values())).dtype
        view = self.projections.view(given.x)
        q, asked = self.projections.queries(view, before.buffers.get("asked"), given.lengths)
        q, counts = q.to(exact), before.clock % rule.step_every
        total, buffers = counts + given.lengths, before.buffers if asked is None else {**before.buffers, "asked": asked}
        answers, after, still = q, before, not write or not bool((total >= rule.step_every).any())
        if still:
            answers = answered(rule, rule.retention.read(before.accumulator, before.anchor), q)
        if still and not (write or surprises):
            return answers, view, before, answers
        waiting = _joined(before.waiting, counts, _waiting_of(given))
        if still and not surprises:
            kept = each(lambda t: t[:, : int(total.max())], waiting)
            return answers, view, replace(before, clock=before.clock + given.lengths, buffers={**buffers, **kept}), answers
        left = total % rule.step_every
        tokens, boundary, tails = self._learnt(before, counts, waiting, total, total - left)
        assert tokens.q is not None
        tokens = replace(tokens, q=join(torch.zeros_like(tokens.q[:, : tokens.time - q.shape[1]]), counts, q))
        said, after, surprise = self.engine.run(rule, tokens, boundary, total)
        said, surprise = (trim(t, counts, q.shape[1]) for t in (said, surprise))
        after = replace(after, pending=None, buffers={**_looked_at(buffers), **tails, **_last(waiting, total, left)})
        return answers if still else said, view, after, surprise

    def _learnt(
        self, state: MemoryState, counts: Tensor, waiting: Mapping[str, Tensor], lengths: Tensor, seen: Tensor
    ) -> tuple[Tokens, MemoryState, dict[str, Tensor]]:
        """What the engine is fed of tokens that waited, with keys for queries; the state before them; and the convolution's tail behind ``seen`` of each row."""
        keys, values, silent, emphasis = waiting[KEYS], waiting.get(VALUES, waiting[KEYS]), waiting.get(SILENT), waiting.get(EMPHASIS)
        given = Given(keys, keys, values, lengths, None if silent is None else ~silent, None if emphasis is None else 1 + emphasis)
        boundary = replace(state, clock=state.clock - counts, buffers={})
        views = self.projections.stored((keys, values))
        k, v, tail = self.projections.associations(views, state.buffers.get("tail"), seen)
        tokens, _ = self._gated((k[:, :, :, 0], k, v), views[0], given, boundary)
        return tokens, boundary, {} if tail is None else {"tail": tail}


def _looked_at(buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The buffers but for what waits."""
    return {name: buffer for name, buffer in buffers.items() if name not in (KEYS, VALUES, SILENT, EMPHASIS)}


def _waiting_of(given: Given) -> dict[str, Tensor]:
    """What waits of the tokens of a call. What is said of few tokens only is such that zero is the usual."""
    waiting = {KEYS: given.keys}
    if given.values is not given.keys:
        waiting[VALUES] = given.values
    if given.writes is not None:
        waiting[SILENT] = ~given.writes
    if given.emphasis is not None:
        waiting[EMPHASIS] = given.emphasis - 1
    return waiting


def _joined(old: Mapping[str, Tensor], counts: Tensor, new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Row by row, the first ``counts[b]`` of what waited followed by what is new."""
    return {name: join(_of(old, name, new), counts, _of(new, name, old)) for name in {**old, **new}}


def _of(waiting: Mapping[str, Tensor], name: str, other: Mapping[str, Tensor]) -> Tensor:
    """What waits under a name that may be in the other alone."""
    if name in waiting:
        return waiting[name]
    keys = waiting[KEYS]
    return keys if name == VALUES else other[name].new_zeros(keys.shape[:2])


def _last(waiting: Mapping[str, Tensor], lengths: Tensor, left: Tensor) -> dict[str, Tensor]:
    """Of each row's first ``lengths[b]`` tokens the last ``left[b]``."""
    places = torch.arange(int(left.max()))
    there = places < left[:, None]
    index = torch.where(there, places + (lengths - left)[:, None], 0)
    return {name: gather(t, index, there) for name, t in waiting.items() if name in (KEYS, VALUES) or bool(left.any())}
