"""Streams cut into shards, in each of which the memory begins anew: all shards of a call are run side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.rule import MemoryRule
from retain.core.state import MemoryState
from retain.core.tokens import Tokens


def in_shards(
    engine: AbstractEngine,
    rule: MemoryRule,
    tokens: Tokens,
    state: MemoryState,
    lengths: Tensor,
    *,
    shard: int,
    start: Callable[[int], MemoryState],
) -> tuple[Tensor, MemoryState]:
    r"""What an engine's ``run`` gives, where the memory is put back to its start behind every ``shard`` tokens of a stream.

    $W_t = W_{\text{start}}$ at the first token of each shard, before its own step, and what the rule says from there on. The clock of the state counts
    the tokens of the shard under way, so to the rule each shard is a stream. Source: TNT equation 6.

    Args:
        engine: Who runs the rule.
        rule: What the memory is.
        tokens: Those of the call.
        state: What the call before left behind.
        lengths: Tokens of each row [batch], on the host.
        shard: Tokens between two starts.
        start: The state before the first token of so many streams.

    Returns:
        Outputs [batch, time, heads, value] and the state behind each row's last token. A shard that is over stands in the state as it ended; it gives way
        to the start when its row goes on, so that a state that was cut off from its graph leaves the gradient of the start alone.

    Examples:
        >>> from retain import presets
        >>> from retain.engines import Recurrent
        >>> rule, x = presets.linear_attention(), torch.ones(1, 5, 1, 1)
        >>> start = lambda rows: MemoryState.start(rule, {"w": torch.zeros(1, 1, 1)}, rows)
        >>> tokens = Tokens(q=x, k=x.unsqueeze(3), v=x.unsqueeze(3), lr=x)
        >>> y, state = in_shards(Recurrent(), rule, tokens, start(1), torch.tensor([5]), shard=2, start=start)
        >>> y.flatten().tolist(), state.clock.tolist()
        ([1.0, 2.0, 1.0, 2.0, 1.0], [1])
    """
    state = begun(state, lengths > 0, shard, start)  # or rows at the end of a shard would begin with an empty piece
    cut = _Cut.of(state.clock, lengths, shard)
    if len(cut.row) == len(lengths):
        y, after, _ = engine.run(rule, tokens, state, lengths)
        return y, after
    state = MemoryState.cat([state, start(len(cut.row) - len(lengths))])
    y, after, _ = engine.run(rule, tokens.map(cut.apart), state, cut.lengths)
    return cut.together(y, tokens.batch, tokens.time), after[cut.last]


def begun(state: MemoryState, rows: Tensor, shard: int, start: Callable[[int], MemoryState]) -> MemoryState:
    """The state with those of the ``rows`` (a mask [batch], on the host) whose shard is over at the start of the next.

    Examples:
        >>> import torch
        >>> from retain import MemoryState, presets
        >>> from retain.core.tokens import Tokens
        >>> from retain.engines import select
        >>> rule = presets.delta_net()
        >>> state = MemoryState.start(rule, rule.structure.init(1, 4, 4), batch=1)
        >>> k, v = torch.eye(4).view(1, 4, 1, 1, 4), torch.ones(1, 4, 1, 1, 4)
        >>> tokens = Tokens(k=k, v=v, q=k[:, :, :, 0], lr=torch.ones(1, 4, 1, 1))
        >>> _, later, _ = select(rule).run(rule, tokens, state)
        >>> fresh = begun(later, torch.tensor([True]), 4, lambda batch: MemoryState.start(rule, rule.structure.init(1, 4, 4), batch))
        >>> int(later.clock), int(fresh.clock)
        (4, 0)
    """
    over = (state.clock == shard) & rows
    if not bool(over.any()):
        return state
    fresh = start(state.batch)
    return fresh if bool(over.all()) else MemoryState.where(over, fresh, state)


@dataclass(frozen=True)
class _Cut:
    """The pieces of the rows of a call, no two shards in one: first the piece with which each row begins, then all others, row after row."""

    row: Tensor  # [pieces], on the host as all of these
    first: Tensor  # [pieces]: the place in its row of a piece's first token
    lengths: Tensor  # [pieces]
    last: Tensor  # [batch]: the piece with which each row ends

    @classmethod
    def of(cls, clock: Tensor, lengths: Tensor, shard: int) -> _Cut:
        every_row, opening = torch.arange(len(lengths)), torch.minimum(shard - clock, lengths)
        more = -((opening - lengths) // shard)  # pieces of each row behind its first
        row, before = every_row.repeat_interleave(more), more.cumsum(0) - more
        first = opening[row] + (torch.arange(len(row)) - before[row]) * shard
        return cls(
            row=torch.cat([every_row, row]),
            first=torch.cat([torch.zeros_like(opening), first]),
            lengths=torch.cat([opening, (lengths[row] - first).clamp(max=shard)]),
            last=torch.where(more > 0, len(lengths) + before + more - 1, every_row),
        )

    def apart(self, x: Tensor) -> Tensor:
        """Tokens [batch, time, ...] as those of the pieces [pieces, longest, ...], zero behind a piece's last one."""
        alive = self._alive
        index = torch.where(alive, self._places(x.shape[1]), 0).to(x.device)
        picked = x.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)
        there = alive.to(x.device).reshape(alive.shape + (1,) * (x.ndim - 2))
        return torch.where(there, picked, torch.zeros((), dtype=x.dtype, device=x.device))

    def together(self, pieces: Tensor, batch: int, time: int) -> Tensor:
        """The inverse of ``apart``; zero behind a row's last token."""
        alive = self._alive
        flat = pieces.new_zeros(batch * time, *pieces.shape[2:])
        return flat.index_copy(0, self._places(time)[alive].to(pieces.device), pieces[alive.to(pieces.device)]).unflatten(0, (batch, time))

    @property
    def _alive(self) -> Tensor:
        return torch.arange(int(self.lengths.max())) < self.lengths[:, None]

    def _places(self, time: int) -> Tensor:
        """Where the tokens of the pieces lie in the flattened batch [pieces, longest]."""
        return (self.row * time + self.first)[:, None] + torch.arange(int(self.lengths.max()))
