"""A window over the last tokens of a stream, or over all: queries, keys and values in, answers out, and what must be kept to go on anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.numerics.ragged import trim

from .flex import flex_fits, look_by_flex


class Sight(NamedTuple):
    """What is kept of a stream: turned keys and values [batch, window - 1, kv_heads, width] of the last tokens, the newest last; those of all tokens
    where sight has no end.
    """

    k: Tensor
    v: Tensor
    clock: Tensor  # tokens of each row so far [batch], on the host

    def map(self, function: Callable[[Tensor], Tensor]) -> Sight:
        """``function`` applied to every tensor but the host's counter."""
        return Sight(function(self.k), function(self.v), self.clock)


@dataclass(frozen=True)
class Window:
    """Softmax attention over the last ``size`` tokens, the asking one included; over all so far if it is None. Positions turn queries and keys (rotary
    embedding, base ``theta``).

    On a GPU stretches longer than the window go through flex attention, all others through scaled dot product attention; the answers are the same.

    Examples:
        >>> window = Window(3)
        >>> q = k = v = torch.randn(1, 5, 2, 4)
        >>> y, sight = window.look(q, k, v, window.start(k[:, :0], v[:, :0]), torch.tensor([5]))
        >>> y.shape, sight.k.shape
        (torch.Size([1, 5, 2, 4]), torch.Size([1, 2, 2, 4]))
    """

    size: int | None
    theta: float = 10_000.0

    def start(self, k: Tensor, v: Tensor) -> Sight:
        """What is kept before the first token, where keys and values are like these [batch, any, kv_heads, width]."""
        kept = 0 if self.size is None else self.size - 1
        k, v = (part.new_zeros(part.shape[0], kept, *part.shape[2:]) for part in (k, v))
        return Sight(k, v, torch.zeros(k.shape[0], dtype=torch.long))

    def look(
        self, q: Tensor, k: Tensor, v: Tensor, before: Sight, lengths: Tensor, prefix: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Sight]:
        """The answers to queries [batch, time, heads, width], and what is kept behind the first ``lengths[b]`` tokens of each row.

        ``prefix``, keys and values [batch, tokens, kv_heads, width], has no position and is in sight of all.
        """
        q, k = (turned(part, before.clock, self.theta) for part in (q, k))
        if self.size is None:
            return self._look_at_all(q, k, v, before, lengths, prefix)
        keys, values = (torch.cat([kept.to(new.dtype), new], dim=1) for kept, new in ((before.k, k), (before.v, v)))
        after = Sight(trim(keys, lengths, self.size - 1), trim(values, lengths, self.size - 1), before.clock + lengths)
        near, time = min(self.size, q.shape[1]), q.shape[1]
        if time > self.size and flex_fits(q):
            ahead = 0 if prefix is None else prefix[0].shape[1]
            k, v = (keys, values) if prefix is None else (torch.cat(parts, dim=1) for parts in zip(prefix, (keys, values), strict=True))
            return look_by_flex(q, k, v, before.clock, self.size, ahead), after
        mine, seen = torch.arange(near)[:, None], torch.arange(self.size - 1 + near)
        mask = (seen >= mine) & (seen < mine + self.size)
        first = mask & (seen >= self.size - 1 - before.clock[:, None, None])  # before the stream there is nothing to see
        out = [_attend(q[:, :near], keys[:, : len(seen)], values[:, : len(seen)], first, prefix)]
        if time > self.size:  # the others in blocks as long as the window, each on its own keys and those of the block before
            blocks = -(-(time - self.size) // self.size)
            fill = (0, 0, 0, 0, 0, (blocks + 1) * self.size - time)
            rest = F.pad(q[:, self.size :], fill).unflatten(1, (blocks, self.size)).flatten(0, 1)
            k, v = (F.pad(part[:, self.size :], fill).unfold(1, len(seen), self.size).movedim(-1, 2).flatten(0, 1) for part in (keys, values))
            ahead = None if prefix is None else (prefix[0].repeat_interleave(blocks, dim=0), prefix[1].repeat_interleave(blocks, dim=0))
            seen_by_rest = _attend(rest, k, v, mask[None], ahead)
            out.append(seen_by_rest.unflatten(0, (-1, blocks)).flatten(1, 2)[:, : time - self.size])
        return torch.cat(out, dim=1), after

    def _look_at_all(
        self, q: Tensor, k: Tensor, v: Tensor, before: Sight, lengths: Tensor, prefix: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Sight]:
        """As ``look``, with turned queries and keys; what is kept has as many places as the longest row has tokens, and is blank before a shorter one."""
        clock, kept = before.clock + lengths, before.k.shape[1]
        keys, values = (torch.cat([old.to(new.dtype), new], dim=1) for old, new in ((before.k, k), (before.v, v)))
        mine, seen = torch.arange(q.shape[1])[:, None], torch.arange(kept + q.shape[1])
        y = _attend(q, keys, values, (seen <= kept + mine) & (seen >= kept - before.clock[:, None, None]), prefix)
        most = int(clock.max()) if len(clock) else 0
        blank = max(0, most - kept - int(lengths.min())) if len(lengths) else 0
        k, v = (trim(F.pad(part, (0, 0, 0, 0, blank, 0)), blank + kept + lengths - most, most) for part in (keys, values))
        return y, Sight(k, v, clock)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, prefix: tuple[Tensor, Tensor] | None) -> Tensor:
    if prefix is not None:
        k, v = (torch.cat([ahead, part], dim=1) for ahead, part in zip(prefix, (k, v), strict=True))
        mask = F.pad(mask, (prefix[0].shape[1], 0), value=True)
    return attend(q, k, v, mask)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of queries [batch, queries, heads, width] on keys and values [batch, keys, kv_heads, width] where ``mask`` [1 or batch, queries,
    keys] holds.
    """
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.unsqueeze(1).to(q.device), enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)


def turned(x: Tensor, clock: Tensor, theta: float) -> Tensor:
    """Tokens [batch, time, heads, width] turned by their positions, the first of row b standing at ``clock[b]``.

    Angles are computed in float64: a million tokens on, float32 no longer tells neighbours apart.
    """
    half = x.shape[-1] // 2
    position = clock[:, None] + torch.arange(x.shape[1])
    angle = position[..., None].double() * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    cos, sin = (part.to(x.device, x.dtype).unsqueeze(2) for part in (angle.cos(), angle.sin()))
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
