"""The exact parallel engine for matrix memories that measure each token's surprise at the newest memory: DeltaNet and its kin, in WY form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.contracts import (
    AbstractAffineBias,
    AbstractChannelRetention,
    AbstractMatrix,
    AbstractOuterRetention,
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

_TOGETHER = 32  # chunks whose systems are solved side by side


@dataclass(frozen=True, kw_only=True)
class Delta(AbstractEngine):
    r"""Runs linear memories with ``update_every=1``, many tokens at once, and nothing is approximated.

    With $r_t = p\, v_t - s\, \lambda_t k_t W_{t-1}$ the memory is $W_t = a_t W_{t-1} + k_t^\top \theta_t r_t$, and the $r$ of a chunk solve the unit
    triangular system $r_t + s \sum_{i<t} (\lambda_t k_t\, a_{i+1..t-1}\, k_i^\top)\, \theta_i r_i = p\, v_t - s \lambda_t a_{1..t-1} k_t W_0$, by
    forward substitution. Columns may decay by numbers of their own where $s = 0$: nothing is solved for then, and each is read with its own shares.
    Symbols: $s$, $p$ the slope and pull of the bias, $\lambda_t = a_t$ if gradients are taken at the decayed memory, else 1.
    Source: the WY form of DeltaNet and Gated DeltaNet; Titans equation 34.

    Args:
        chunk: Tokens solved together; never changes the answer. With a decay for each channel a quarter of it.
        recompute: Chunks whose intermediate results are computed again in the backward pass, together; 0 keeps everything.

    Examples:
        >>> from retain import presets
        >>> Delta().why_not(presets.gated_delta_net()) is None
        True
        >>> print(Delta().why_not(presets.titans()))
        delta needs a memory that is one matrix; NormResidual is not.
    """

    name = "delta"
    chunk: int = 32
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
        if isinstance(rule.retention, AbstractOuterRetention) and rule.bias.slope:
            return (
                f"delta solves for all channels of the values at once; {type(rule.retention).__name__} lets each go by a number of its own, and what "
                f"{type(rule.bias).__name__} writes depends on what is left."
            )
        if not isinstance(rule.retention, (AbstractScalarRetention, AbstractChannelRetention, AbstractOuterRetention)):
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
            with torch.autocast(memory.device.type, enabled=False):  # a triangular system is not solved in bfloat16
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
    columns: Tensor | None = None  # [N, T, value], as ``ratio``, if what is kept differs from column to column
    column_slant: Tensor | None = None  # [N, T, value], as ``slant``


def _inputs(rule: MemoryRule, tokens: Tokens) -> list[tuple[Tensor, int]]:
    """The tensors of ``_Chunk`` for all tokens, and how many rows of each belong to a token."""
    assert tokens.q is not None
    pairs = tokens.k.shape[3]
    lr, active = shares_of(tokens).squeeze(1), heads_first(tokens.written.unsqueeze(2).expand(*tokens.lr.shape[:3]))
    retain, columns = None if tokens.retain is None else heads_first(tokens.retain), None
    if isinstance(rule.retention, AbstractScalarRetention):
        rows = rule.retention.ratio(retain, heads_first(tokens.lr[..., 0])).unsqueeze(-1)
    elif isinstance(rule.retention, AbstractChannelRetention):
        rows = rule.retention.ratio(retain)
    else:
        assert isinstance(rule.retention, AbstractOuterRetention)
        rows, columns = rule.retention.ratios(retain, tokens.k.shape[-1])
    inputs = [(heads_first(tokens.q), 1), (cells_first(tokens.k), pairs), (cells_first(tokens.v), pairs), (lr, pairs)]
    for raw in (rows, columns):
        if raw is not None:
            slant = raw if rule.retention.grad_at == "decayed" else torch.ones_like(raw)
            inputs += [(torch.where(active.unsqueeze(-1), raw, 1.0), 1), (slant, 1)]
    return inputs


def _chunks(rule: MemoryRule, size: int, memory: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The run over some chunks, several side by side: outputs, losses and the memory behind them."""
    whole = _Chunk(*tensors)
    time = whole.q.shape[1]
    pairs, full, outputs, losses = whole.k.shape[1] // time, time - time % size, [], []
    stops = [*range(_TOGETHER * size, full, _TOGETHER * size), *([full] if full else []), *([time] if time > full else [])]
    for start, stop in pairwise([0, *stops]):
        chunks = _Chunk(*(x[:, start * n : stop * n].unflatten(1, (-1, min(size, stop - start) * n)) for x in tensors for n in (x.shape[1] // time,)))
        y, loss, memory = _solve(rule, memory, chunks, pairs)
        outputs.append(y.flatten(1, 2))
        losses.append(loss.flatten(1, 2))
    return torch.cat(outputs, dim=1), torch.cat(losses, dim=1), memory


def _solve(rule: MemoryRule, memory: Tensor, c: _Chunk, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Chunks side by side [N, chunks, ...]. What a chunk wrote is $U - V M$ with $M$ the memory before it, the only thing that goes from one to the next."""
    bias = rule.bias
    assert isinstance(bias, AbstractAffineBias)
    with torch.autocast(memory.device.type, enabled=False):  # what is kept and what is stored is told in full
        table = None if rule.retention.gate == "none" else _Decay.of(c.ratio, c.slant, rule.reads, pairs)
        columns = None if c.columns is None or c.column_slant is None else _Decay.of(c.columns, c.column_slant, rule.reads, pairs)
        slanted = c.k if table is None else c.k * table.slant
        into = slanted if table is None else slanted * table.begun  # times the memory: the predictions, but for what the chunk itself wrote
        among = _gram(slanted, c.k, None if table is None else table.earlier, pairs, pairs, diagonal=-1)
        rates, taken, wanted = c.lr.unsqueeze(-1), None, bias.pull * c.v
        if bias.slope:  # the surprises themselves are solved for, before their rates
            eye = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
            system = eye + bias.slope * among * c.lr.unsqueeze(-2)
            solved = torch.linalg.solve_triangular(system, eye.expand_as(among), upper=False, unitriangular=True)
            wanted, taken = solved @ wanted, (bias.slope * solved) @ into

        onto = (c.k if table is None else c.k * table.tail).transpose(-1, -2)
        before, surprises = [], []
        for i in range(c.k.shape[1]):
            before.append(memory)
            surprises.append(wanted[:, i] if taken is None else torch.baddbmm(wanted[:, i], taken[:, i], memory, alpha=-1))
            left, came = memory if table is None else table.kept[:, i] * memory, rates[:, i] * surprises[-1]
            if columns is not None:
                left, came = left * columns.kept[:, i].transpose(-1, -2), came * columns.tail[:, i]
            memory = torch.baddbmm(left, onto[:, i], came)
    memories, surprise = torch.stack(before, dim=1), torch.stack(surprises, dim=1)
    error = rates * surprise
    q = c.q if table is None else c.q * table.at
    near = _gram(c.q, c.k, None if table is None else table.reach, 1, pairs, diagonal=0 if rule.reads == "after" else -1)
    if columns is None:
        seen = (bias.pull * c.v - surprise) / bias.slope if bias.slope else into @ memories + among @ error
        y = q @ memories + near @ error
    else:
        seen = columns.slant * (columns.begun * (into @ memories) + _by_column(among, columns.earlier, error, pairs, pairs))
        y = columns.at * (q @ memories) + _by_column(near, columns.reach, error, 1, pairs)
    loss = bias.loss(seen, c.v)
    return y, per_token(loss.flatten(0, 1), pairs).unflatten(0, loss.shape[:2]), memory


def _by_column(gram: Tensor, decay: Tensor, error: Tensor, left_pairs: int, right_pairs: int) -> Tensor:
    """Products of ``gram`` [N, chunks, left, right] and errors [N, chunks, right, value], each weighted by what its column keeps between the two tokens."""
    between = decay.repeat_interleave(left_pairs, dim=-2).repeat_interleave(right_pairs, dim=-1)
    return (gram.unsqueeze(-3) * between * error.transpose(-1, -2).unsqueeze(-2)).sum(-1).transpose(-1, -2)


@dataclass(frozen=True)
class _Decay:
    """What is kept from one token of a chunk to another; A channels, cells of T tokens with P pairs."""

    slant: Tensor  # [N, chunks, T * P, A], before a surprise is measured
    begun: Tensor  # [N, chunks, T * P, A], from the chunk's start to before the token
    earlier: Tensor  # [N, chunks, A, T, T], between two tokens, to before the later one
    reach: Tensor  # [N, chunks, A, T, T], to where the later one reads
    at: Tensor  # [N, chunks, T, A], from the chunk's start to where the token reads
    tail: Tensor  # [N, chunks, T * P, A], from the token to the chunk's end
    kept: Tensor  # [N, chunks, A, 1], over the whole chunk

    @classmethod
    def of(cls, ratio: Tensor, slant: Tensor, reads: str, pairs: int) -> _Decay:
        ratio = ratio.transpose(-1, -2)  # [N, chunks, A, T]
        decay = products(ratio)
        start = running(ratio, decay).transpose(-1, -2)
        earlier = F.pad(decay[..., :-1, :], (0, 0, 1, 0))  # the same one token before: strictly lower triangular
        begun = torch.cat([torch.ones_like(start[..., :1, :]), start[..., :-1, :]], dim=-2)
        reach, at = (decay, start) if reads == "after" else (earlier, begun)
        slant, cells, tail = (x.repeat_interleave(pairs, dim=-2) for x in (slant, begun, decay[..., -1, :].transpose(-1, -2)))
        return cls(slant, cells, earlier, reach, at, tail, start[..., -1, :].unsqueeze(-1))


def _gram(left: Tensor, right: Tensor, decay: Tensor | None, left_pairs: int, right_pairs: int, diagonal: int) -> Tensor:
    """Products of rows of ``left`` and ``right`` [N, chunks, left, right], each channel weighted by what is kept of it between their tokens.

    Without a decay those of tokens up to ``diagonal`` behind.
    """
    if decay is None and left_pairs == right_pairs == 1:
        return (left @ right.transpose(-1, -2)).tril(diagonal)
    if decay is None:
        times = left.shape[-2] // left_pairs
        decay = torch.ones(1, times, times, dtype=left.dtype, device=left.device).tril(diagonal)
    between = decay.repeat_interleave(left_pairs, dim=-2).repeat_interleave(right_pairs, dim=-1)
    if decay.shape[-3] == 1:
        return (left @ right.transpose(-1, -2)) * between.squeeze(-3)
    return (left.transpose(-1, -2).unsqueeze(-1) * between * right.transpose(-1, -2).unsqueeze(-2)).sum(-3)
