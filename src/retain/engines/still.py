"""A memory that stands still: its weights as they are now, and what they answer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.numerics.ragged import gather

from .materialised import Materialised


def folded(engine: AbstractEngine, rule: MemoryRule, state: MemoryState) -> MemoryState:
    """The state with each whole step of the tokens that wait in its accumulator.

    Examples:
        >>> from retain import MemoryState, presets
        >>> from retain.engines import Recurrent
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> folded(Recurrent(), rule, state) is state  # no token waits
        True
    """
    if state.pending is None or bool((state.pending.count < rule.step_every).all()):
        return state
    waiting = state.pending.tokens
    waiting = replace(waiting, q=waiting.k[:, :, :, 0])  # nobody hears the answers
    return engine.run(rule.spread, waiting, replace(state, clock=state.folded, pending=None), state.pending.count)[1]


def completed(engine: AbstractEngine, rule: MemoryRule, state: MemoryState) -> MemoryState:
    """The state with the step that is under way in a row taken, as if its missing tokens had come, none of them written, with the gates of its last one.

    Examples:
        >>> from retain import MemoryState, presets
        >>> from retain.engines import Recurrent
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> completed(Recurrent(), rule, state) is state  # no step is under way
        True
    """
    missing = -state.clock % rule.step_every
    if state.pending is None or not bool(missing.any()):
        return state
    waiting = state.pending.tokens
    last = (state.pending.count - 1).clamp(min=0)[:, None].expand(-1, int(missing.max()))
    more = waiting.map(lambda t: gather(t, last, torch.ones_like(last, dtype=torch.bool)))
    more = replace(more, q=more.k[:, :, :, 0], write=torch.zeros_like(more.written))
    return engine.run(rule.spread, more, state, missing)[1]


def weights_of(rule: MemoryRule, state: MemoryState) -> Params:
    """The weights with which the memory would answer now, those of its last whole step: each [batch, heads, ...].

    Examples:
        >>> import torch
        >>> from retain import MemoryState, presets
        >>> from retain.core.tokens import Tokens
        >>> from retain.engines import select
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> k, v = torch.eye(4).view(1, 4, 1, 1, 4), torch.ones(1, 4, 1, 1, 4)
        >>> tokens = Tokens(k=k, v=v, q=k[:, :, :, 0], lr=torch.ones(1, 4, 1, 1))
        >>> _, state, _ = select(rule).run(rule, tokens, state)
        >>> weights_of(rule, state)["w"].shape
        torch.Size([1, 1, 4, 4])
    """
    whole = folded(Materialised(), rule, state)
    return rule.retention.read(whole.accumulator, whole.anchor)


def answered(rule: MemoryRule, weights: Params, q: Tensor) -> Tensor:
    """The answers of weights that stand still to queries [batch, time, heads, key].

    Raises:
        ValueError: Tokens of this memory see each other, so that none can be read by itself.

    Examples:
        >>> import torch
        >>> from retain import MemoryState, presets
        >>> from retain.core.tokens import Tokens
        >>> from retain.engines import select
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> k, v = torch.eye(4).view(1, 4, 1, 1, 4), torch.ones(1, 4, 1, 1, 4)
        >>> tokens = Tokens(k=k, v=v, q=k[:, :, :, 0], lr=torch.ones(1, 4, 1, 1))
        >>> _, state, _ = select(rule).run(rule, tokens, state)
        >>> answered(rule, weights_of(rule, state), k[:, :, :, 0])[0, :, 0]  # each key its value
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """
    if rule.structure.company(weights):
        raise ValueError(
            f"{type(rule.structure).__name__} reads tokens together with those that read the same memory; it cannot stand still. "
            "Read with write_mask instead, or choose another structure."
        )
    return rule.structure.read(Plain(weights), q.transpose(1, 2)).transpose(1, 2)
