"""Keys that are bound to the value behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.numerics.ragged import trim


def behind(k: Tensor, lr: Tensor, last: Tensor | None, clock: Tensor, lengths: Tensor, every: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys and rates one pair later, so that each key meets the value of the pair behind it; a step's last key meets none.

    Args:
        k: Keys [batch, time, heads, pairs, key].
        lr: Their rates [batch, time, heads, pairs].
        last: Key and rate of the last pair before these tokens [batch, heads, key + 1].
        clock: Where each row stands [batch], on the host.
        lengths: Tokens of each row [batch], on the host.
        every: Tokens of a step.

    Returns:
        Keys, rates, which pairs [batch, time, pairs] have a key of their own step, and key and rate of the last pair of each row.
    """
    batch, time, heads, pairs, _ = k.shape
    both = torch.cat([k, lr.unsqueeze(-1).to(k.dtype)], dim=-1)
    last = both.new_zeros(batch, heads, both.shape[-1]) if last is None else last.to(both.dtype)
    row = torch.cat([last.unsqueeze(1), both.transpose(2, 3).flatten(1, 2)], dim=1)  # [batch, 1 + time * pairs, heads, key + 1]
    moved = row[:, :-1].unflatten(1, (time, pairs)).transpose(2, 3) if time else both
    first = ((clock[:, None] + torch.arange(time)) % every == 0).unsqueeze(-1) & (torch.arange(pairs) == 0)
    own = ~first.to(k.device)
    return moved[..., :-1], torch.where(own.unsqueeze(2), moved[..., -1], 0.0), own, trim(row, lengths * pairs, 1)[:, 0]
