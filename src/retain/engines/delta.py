"""The exact parallel engine for matrix memories that measure each token's surprise at the newest memory: DeltaNet and its kin, in WY form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from retain.core.contracts import (
    AbstractAffineBias,
    AbstractChannelRetention,
    AbstractMatrix,
    AbstractPlainLearner,
    AbstractScalarRetention,
)
from retain.core.engine import AbstractEngine
from retain.core.rule import MemoryRule
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.numerics import Layout, products, recompute, running
from retain.numerics.ragged import trim

from .coefficients import shares_of
from .heads import cells_first, heads_first, per_token, tokens_first
from .stream import Joined


@dataclass(frozen=True, kw_only=True)
class Delta(AbstractEngine):
    r"""Runs linear memories with ``update_every=1``, many tokens at once, and nothing is approximated.

    With $e_t = \theta_t (p\, v_t - s\, \lambda_t k_t W_{t-1})$ the memory is $W_t = a_t W_{t-1} + k_t^\top e_t$, and the $e$ of a chunk solve the unit
    triangular system $e_t + \theta_t s \sum_{i<t} (\lambda_t k_t\, a_{i+1..t-1}\, k_i^\top) e_i = \theta_t (p\, v_t - s \lambda_t a_{1..t-1} k_t W_0)$, by
    forward substitution. Symbols: $s$, $p$ the slope and pull of the bias, $\lambda_t = a_t$ if gradients are taken at the decayed memory, else 1.
    Source: the WY form of DeltaNet and Gated DeltaNet; Titans equation 34.

    Args:
        chunk: Tokens solved together; never changes the answer. With a decay for each channel a quarter of it.
        recompute: Chunks whose intermediate results are computed again in the backward pass, together; 0 keeps everything.
    """

    name = "delta"
    chunk: int = 64
    recompute: int = 16

    def refusal(self, rule: MemoryRule) -> str | None:
        if not isinstance(rule.structure, AbstractMatrix):
            return f"delta needs a memory that is one matrix; {type(rule.structure).__name__} is not."
        if rule.update_every != 1:
            return f"delta takes each gradient at the newest memory, update_every=1; this rule has {rule.update_every}."
        if rule.anchor.residual == "weights":
            return "delta takes each gradient at the newest memory; with Anchor(residual='weights') another memory's weights are added to it."
        if not isinstance(rule.bias, AbstractAffineBias):
            return f"delta needs a bias whose gradient is affine in the prediction; that of {type(rule.bias).__name__} is not."
        if not isinstance(rule.learner, AbstractPlainLearner):
            return f"delta needs plain gradient steps; {type(rule.learner).__name__} has a memory of its own."
        if not isinstance(rule.retention, (AbstractScalarRetention, AbstractChannelRetention)):
            return f"delta needs retention that multiplies; {type(rule.retention).__name__} does not."
        return None

    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        if tokens.time == 0:
            return tokens.v[:, :, :, 0], state, tokens.lr.sum(-1)
        assert isinstance(rule.structure, AbstractMatrix)
        joined = Joined.of(tokens, state, lengths)
        size = self.chunk if isinstance(rule.retention, AbstractScalarRetention) else max(1, self.chunk // 4)
        layout = Layout(torch.zeros_like(joined.lengths), joined.lengths, size)
        placed = replace(joined.tokens, write=joined.tokens.written).map(layout.place)
        heads, name = tokens.k.shape[2], rule.structure.weight
        inputs, memory = _inputs(rule, placed), state.accumulator[name].flatten(0, 1)
        span = size * self.recompute if self.recompute and torch.is_grad_enabled() else placed.time
        outputs, losses = [], []
        for start in range(0, placed.time, span):
            part = [None if x is None else x[:, start * per : (start + span) * per] for x, per in inputs]

            def passage(weights: Tensor, *here: Tensor) -> tuple[Tensor, ...]:
                return _chunks(rule, size, weights, *here)

            again = recompute if start + span < placed.time else lambda function, *tensors: function(*tensors)
            y, loss, memory = again(passage, memory, *part)
            outputs.append(y)
            losses.append(loss)
        y, surprise = (tokens_first(torch.cat(parts, dim=1), heads) for parts in (outputs, losses))
        y, surprise = (trim(layout.take(x, joined.tokens.time), joined.before, joined.time) for x in (y, surprise))
        weights = {name: memory.unflatten(0, (-1, heads))}
        clock = state.clock + joined.lengths - joined.before
        return y, replace(state, anchor=weights, accumulator=weights, clock=clock, pending=None), surprise


class _Chunk(NamedTuple):
    """What a chunk is made of. N memories, T tokens, P pairs, A channels of decay (1, or as many as a key has)."""

    q: Tensor  # [N, T, key]
    k: Tensor  # [N, T * P, key]
    v: Tensor  # [N, T * P, value]
    lr: Tensor  # [N, T * P], zero where nothing is written
    ratio: Tensor  # [N, T, A], one where nothing is written
    slant: Tensor  # [N, T, A], what the memory decays by before its surprise is measured


def _inputs(rule: MemoryRule, tokens: Tokens) -> list[tuple[Tensor, int]]:
    """The tensors of ``_Chunk`` for all tokens, and how many rows of each belong to a token."""
    assert tokens.q is not None
    pairs = tokens.k.shape[3]
    lr, active = shares_of(tokens).squeeze(1), heads_first(tokens.written.unsqueeze(2).expand(*tokens.lr.shape[:3]))
    if isinstance(rule.retention, AbstractScalarRetention):
        like = heads_first(tokens.lr[..., 0])
        raw = rule.retention.ratio(None if tokens.retain is None else heads_first(tokens.retain), like).unsqueeze(-1)
    else:
        assert isinstance(rule.retention, AbstractChannelRetention)
        assert tokens.retain is not None
        raw = rule.retention.ratio(heads_first(tokens.retain))
    slant = raw if rule.retention.grad_at == "decayed" else torch.ones_like(raw)
    ratio = torch.where(active.unsqueeze(-1), raw, 1.0)
    return [(heads_first(tokens.q), 1), (cells_first(tokens.k), pairs), (cells_first(tokens.v), pairs), (lr, pairs), (ratio, 1), (slant, 1)]


def _chunks(rule: MemoryRule, size: int, memory: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The run over some chunks: outputs, losses and the memory behind them."""
    whole = _Chunk(*tensors)
    pairs, outputs, losses = whole.k.shape[1] // whole.q.shape[1], [], []
    for start in range(0, whole.q.shape[1], size):
        per = (1, pairs, pairs, pairs, 1, 1)
        chunk = _Chunk(*(x[:, start * n : (start + size) * n] for x, n in zip(whole, per, strict=True)))
        y, loss, memory = _solve(rule, memory, chunk, pairs)
        outputs.append(y)
        losses.append(loss)
    return torch.cat(outputs, dim=1), torch.cat(losses, dim=1), memory


def _solve(rule: MemoryRule, memory: Tensor, c: _Chunk, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    bias = rule.bias
    assert isinstance(bias, AbstractAffineBias)
    ratio = c.ratio.transpose(1, 2)  # [N, A, T]
    decay = products(ratio)  # [N, A, T, T]
    start = running(ratio, decay).transpose(1, 2)  # [N, T, A]
    earlier = torch.nn.functional.pad(decay[..., :-1, :], (0, 0, 1, 0))  # the same one token before: strictly lower triangular
    begun = torch.cat([torch.ones_like(start[:, :1]), start[:, :-1]], dim=1)

    slanted = c.k * c.slant.repeat_interleave(pairs, dim=1)
    before = (slanted * begun.repeat_interleave(pairs, dim=1)) @ memory  # the predictions, but for what this chunk wrote
    among = _gram(slanted, c.k, earlier, pairs, pairs)
    lr = c.lr.unsqueeze(-1)
    errors = lr * (bias.pull * c.v - bias.slope * before)
    if bias.slope:
        eye = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
        errors = torch.linalg.solve_triangular(eye + bias.slope * lr * among, errors, upper=False, unitriangular=True)
    loss = bias.loss(before + among @ errors, c.v)

    reach, at = (decay, start) if rule.reads == "after" else (earlier, begun)
    y = (c.q * at) @ memory + _gram(c.q, c.k, reach, 1, pairs) @ errors
    tail = decay[..., -1, :].transpose(1, 2).repeat_interleave(pairs, dim=1)  # [N, T * P, A]
    memory = start[:, -1].unsqueeze(-1) * memory + (c.k * tail).transpose(1, 2) @ errors
    return y, per_token(loss, pairs), memory


def _gram(left: Tensor, right: Tensor, decay: Tensor, left_pairs: int, right_pairs: int) -> Tensor:
    """Products of rows of ``left`` and ``right``, each channel weighted by what is kept of it between their tokens [N, left, right]."""
    between = decay.repeat_interleave(left_pairs, dim=-2).repeat_interleave(right_pairs, dim=-1)
    if decay.shape[1] == 1:
        return (left @ right.transpose(1, 2)) * between.squeeze(1)
    return (left.transpose(1, 2).unsqueeze(3) * between * right.transpose(1, 2).unsqueeze(2)).sum(1)
