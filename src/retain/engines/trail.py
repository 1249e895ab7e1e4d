"""Two memories step by step: where one's weights stood before each of its steps, for another that takes its gradients beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.tokens import Tokens

from .materialised import Materialised
from .recurrent import Recurrent
from .still import folded


@dataclass(frozen=True, kw_only=True)
class Trail:
    """The weights of a memory along one call: a copy for each step that it touches.

    Args:
        cuts: Tokens of the call at which any row begins a step, from 0 to the call's length.
        weights: Between each two cuts, the weights before the step [batch, heads, ...].

    Examples:
        >>> from retain import NeuralMemory, presets
        >>> memory = NeuralMemory(8, rule=presets.titans(update_every=4, step_every=4))
        >>> *_, trail = memory(torch.randn(1, 10, 8), return_weights=True)
        >>> trail.cuts
        (0, 4, 8, 10)
    """

    cuts: tuple[int, ...]
    weights: tuple[Params, ...]


def in_steps(
    engine: AbstractEngine, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor, beside: Trail | None
) -> tuple[Tensor, MemoryState, Tensor, Trail]:
    """What an engine's ``run`` gives, and the trail, with the other memory's weights beside each step.

    Engines that do not write the weights out at each step leave it to one that does.

    Raises:
        ValueError: The other memory was called on other lengths, or takes steps at other tokens.

    Examples:
        >>> import torch
        >>> from retain import MemoryState, presets
        >>> from retain.core.tokens import Tokens
        >>> from retain.engines import select
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> k, v = torch.eye(4).view(1, 4, 1, 1, 4), torch.ones(1, 4, 1, 1, 4)
        >>> tokens = Tokens(k=k, v=v, q=k[:, :, :, 0], lr=torch.ones(1, 4, 1, 1))
        >>> y, after, surprise, trail = in_steps(select(rule), rule, tokens, state, torch.tensor([4]), None)
        >>> torch.equal(y, select(rule).run(rule, tokens, state)[0])
        True
    """
    engine = engine if isinstance(engine, (Materialised, Recurrent)) else Materialised()
    cuts = _cuts(rule, state.clock, lengths, tokens.time)
    if beside is not None and beside.cuts != cuts:
        raise ValueError(f"two memories beside each other begin their steps at the same tokens; these begin them at {beside.cuts} and {cuts}.")
    if not tokens.time:
        return *engine.run(rule, tokens, state, lengths), Trail(cuts=cuts, weights=())
    state, weights, outputs, surprises = folded(engine, rule, state), [], [], []
    for i, (start, stop) in enumerate(pairwise(cuts)):
        weights.append(rule.retention.read(state.accumulator, state.anchor))
        here = state if beside is None else replace(state, beside=beside.weights[i])
        stretch = tokens.map(lambda x, a=start, b=stop: x[:, a:b])
        y, state, surprise = engine.run(rule, stretch, here, (lengths - start).clamp(0, stop - start))
        outputs.append(y)
        surprises.append(surprise)
    return torch.cat(outputs, dim=1), state, torch.cat(surprises, dim=1), Trail(cuts=cuts, weights=tuple(weights))


def _cuts(rule: MemoryRule, clock: Tensor, lengths: Tensor, time: int) -> tuple[int, ...]:
    token = torch.arange(time)
    begins = ((clock[:, None] + token) % rule.step_every == 0) & (token < lengths[:, None])
    return tuple(sorted({0, time, *begins.any(0).nonzero().flatten().tolist()}))
