"""Borders and insides: engines speak [batch, time, heads, ...] outside and work on N = batch x heads memories inside."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.core.shapes import Params
from retain.core.trees import each, pick


def heads_first(x: Tensor) -> Tensor:
    """[batch, time, heads, ...] as [N, time, ...]."""
    return x.transpose(1, 2).flatten(0, 1)


def tokens_first(x: Tensor, heads: int) -> Tensor:
    """[N, time, ...] as [batch, time, heads, ...]."""
    return x.unflatten(0, (-1, heads)).transpose(1, 2)


def cells_first(x: Tensor) -> Tensor:
    """[batch, time, heads, pairs, ...] as [N, time * pairs, ...]."""
    return x.transpose(1, 2).flatten(2, 3).flatten(0, 1)


def per_token(loss: Tensor, pairs: int) -> Tensor:
    """[N, time * pairs] summed over pairs [N, time]."""
    return loss if pairs == 1 else loss.unflatten(1, (-1, pairs)).sum(-1)


def flat(params: Params) -> Params:
    """Weights [batch, heads, ...] as [N, ...]."""
    return each(lambda w: w.flatten(0, 1), params)


def unflat(params: Params, heads: int) -> Params:
    """Weights [N, ...] as [batch, heads, ...]."""
    return each(lambda w: w.unflatten(0, (-1, heads)), params)


def pick_rows(rows: Tensor, yes: list[Params], no: list[Params]) -> list[Params]:
    """For each row of the batch, the weights [N, ...] in ``yes`` where ``rows`` [batch] holds, else those in ``no``."""
    if bool(rows.all()):
        return yes
    if not bool(rows.any()):
        return no
    like = next(iter(no[0].values()))
    spread = rows.to(like.device).repeat_interleave(like.shape[0] // rows.shape[0])
    return [pick(spread, a, b) for a, b in zip(yes, no, strict=True)]


def cut_rows(rows: Tensor, weights: list[Params]) -> list[Params]:
    """The weights, detached in those rows of the batch."""
    return pick_rows(rows, [each(torch.Tensor.detach, w) for w in weights], weights)
