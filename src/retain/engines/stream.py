"""What every engine does before and after its work: put the tokens that waited in front of the new ones, and keep those that must wait again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState, Pending
from retain.core.tokens import Tokens
from retain.core.trees import each, stretch
from retain.numerics import Layout
from retain.numerics.ragged import gather, join, trim


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Tokens that waited in the state, followed by the tokens of a call."""

    tokens: Tokens
    before: Tensor  # [batch]: how many of each row's tokens waited
    lengths: Tensor  # [batch]: how many tokens each row has in all
    time: int  # tokens of the call

    @classmethod
    def of(cls, tokens: Tokens, state: MemoryState, lengths: Tensor | None = None) -> Joined:
        time, before = tokens.time, torch.zeros(state.batch, dtype=torch.long)
        new = torch.full_like(before, time) if lengths is None else lengths
        if state.pending is not None:
            assert tokens.q is not None
            waiting, before = state.pending.tokens, state.pending.count
            waiting = replace(waiting, q=tokens.q.new_zeros(waiting.batch, waiting.time, *tokens.q.shape[2:]), write=waiting.written)
            tokens = Tokens.zip(lambda a, b: join(a, before, b), [waiting, replace(tokens, write=tokens.written)])
        joined = cls(tokens=tokens, before=before, lengths=before + new, time=time)
        return joined if bool((new == time).all()) else replace(joined, tokens=tokens.map(lambda x: _blank(x, joined.real)))

    @property
    def real(self) -> Tensor:
        """Which of the tokens are there at all [batch, time]."""
        return torch.arange(self.tokens.time) < self.lengths[:, None]

    def new(self, per_token: list[Tensor] | Tensor, like: Tensor) -> Tensor:
        """What belongs to the tokens of the call, out of one entry for each joined token [batch, time, ...]."""
        if isinstance(per_token, list):
            per_token = torch.stack(per_token, dim=1) if per_token else like[:, :0]
        return trim(per_token, self.before, self.time)


def _blank(x: Tensor, real: Tensor) -> Tensor:
    """Zero in the place of tokens that are not there, whatever the padding held."""
    real = real.to(x.device)
    return torch.where(real.reshape(real.shape + (1,) * (x.ndim - 2)), x, torch.zeros((), dtype=x.dtype, device=x.device))


def pending_after(joined: Joined, count: Tensor, factors: Mapping[str, tuple[Tensor, ...]] | None = None) -> Pending | None:
    """The last ``count[b]`` joined tokens of each row, to wait; None if no row has any."""
    if not bool(count.any()):
        return None
    tokens = replace(joined.tokens, q=None)
    width, index = int(count.max()), joined.lengths - count
    if bool((index == index[0]).all()):
        kept = tokens.map(lambda x: x[:, int(index[0]) : int(index[0]) + width])
    else:
        cell = torch.arange(width)
        alive = cell < count[:, None]
        kept = tokens.map(lambda x: gather(x, torch.where(alive, cell + index[:, None], 0), alive))
    return Pending(tokens=kept, count=count, factors=factors or {})


def tile_of(rule: MemoryRule, wanted: int) -> int:
    """The largest tile of whole steps, no larger than wanted, that cuts a segment into equal parts."""
    whole, every = rule.update_every, rule.step_every
    if rule.anchor.residual == "weights":
        return every  # whose gradients have a point of their own
    largest = max(1, wanted // every) * every
    if whole is None:
        return largest
    return max((t for t in range(every, min(whole, largest) + 1, every) if whole % t == 0), default=whole)


def moves_anchor(rule: MemoryRule, state: MemoryState, layout: Layout, tiles: range) -> Tensor:
    """For which rows a boundary lies at the end of each of these tiles [tiles, batch], in a layout that begins with what the state has not folded."""
    stop, every = torch.arange(tiles.start + 1, tiles.stop + 1)[:, None] * layout.tile, rule.update_every
    if every is None:
        return torch.zeros_like(stop + layout.end, dtype=torch.bool)
    clock = state.folded + stop - layout.offset
    return (stop > layout.offset) & (stop <= layout.end) & (clock % every == 0)


def part_way(anchor: Params, accumulator: Params, gate: Tensor | None) -> Params:
    """From the anchor towards the accumulator, as far as the gate says."""
    if gate is None:
        raise ValueError("Anchor(transition='gated') needs a `transition` gate with each token, got None.")
    return each(lambda old, new: old + stretch(gate, old) * (new - old), anchor, accumulator)
