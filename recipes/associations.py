"""A bare memory, without a model around it: associations written into it one after the other, and asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from retain import MemoryRule, MemoryState
from retain.core.shapes import Params
from retain.core.tokens import Tokens
from retain.engines import answered, select, weights_of


def written(rule: MemoryRule, fresh: Params, k: Tensor, v: Tensor, rate: float, kept: float = 1.0) -> MemoryState:
    """The memory after each row's keys and values [batch, time, width], at one rate and with one share that is kept at each token."""
    batch, time = k.shape[:2]
    gate = None if rule.retention.gate == "none" else torch.full((batch, time, 1), kept)
    tokens = Tokens(k=_one_head(k), v=_one_head(v), q=k.unsqueeze(2), lr=torch.full((batch, time, 1, 1), rate), retain=gate)
    return select(rule).run(rule, tokens, MemoryState.start(rule, fresh, batch))[1]


def answers(rule: MemoryRule, state: MemoryState, keys: Tensor) -> Tensor:
    """What the memory, which stands still, answers to keys [batch, time, width]."""
    return answered(rule, weights_of(rule, state), keys.unsqueeze(2)).squeeze(2)


def nearest(found: Tensor, values: Tensor) -> Tensor:
    """Which of the values [batch, values, width] lies nearest to each answer [batch, time, width]."""
    return torch.cdist(found, values).argmin(-1)


def _one_head(x: Tensor) -> Tensor:
    return x[:, :, None, None]
