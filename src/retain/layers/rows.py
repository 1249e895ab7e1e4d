"""Padding and packing: streams as they come in a batch, and as rows of real tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from retain.core.errors import StateMismatch
from retain.numerics.ragged import gather


@dataclass(frozen=True)
class Rows:
    """Where the real tokens of each row lie in the batch that was handed in.

    ``index[b, i]`` is the place, in the flattened batch, of the i-th real token of row b; None if the batch is made of rows of real tokens as it is.
    """

    shape: tuple[int, int]
    lengths: Tensor  # [rows], on the host
    index: Tensor | None  # [rows, longest], on the host

    @classmethod
    def of(cls, x: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None) -> Rows:
        batch, time = x.shape[:2]
        if cu_seqlens is not None:
            return cls._packed(x, mask, cu_seqlens.cpu())
        if mask is None:
            return cls((batch, time), torch.full((batch,), time), None)
        if mask.shape != (batch, time) or mask.dtype != torch.bool:
            raise ValueError(f"mask must be a bool tensor of shape [batch, time] = {[batch, time]}, got {mask.dtype} {list(mask.shape)}.")
        real = mask.cpu()
        lengths = real.sum(1)
        order = (~real).to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths.max()) if batch else 0]
        return cls((batch, time), lengths, order + torch.arange(batch)[:, None] * time)

    @classmethod
    def _packed(cls, x: Tensor, mask: Tensor | None, bounds: Tensor) -> Rows:
        batch, time = x.shape[:2]
        ordered = bounds.ndim == 1 and len(bounds) > 1 and int(bounds[0]) == 0 and int(bounds[-1]) == time and bool((bounds.diff() >= 0).all())
        if batch != 1 or mask is not None or not ordered:
            raise ValueError(
                f"cu_seqlens needs one row of tokens, no mask, and bounds that rise from 0 to time={time}; got {batch} rows, "
                f"{'a' if mask is not None else 'no'} mask and bounds {bounds.tolist()}."
            )
        lengths = bounds.diff().long()
        return cls((batch, time), lengths, bounds[:-1, None].long() + torch.arange(int(lengths.max())))

    def gather(self, x: Tensor) -> Tensor:
        """[batch, time, ...] as rows of real tokens [rows, longest, ...], zero behind a row's last one."""
        if self.index is None:
            return x
        alive = torch.arange(self.index.shape[1]) < self.lengths[:, None]
        flat = x.flatten(0, 1)
        return gather(flat.unsqueeze(0).expand(len(self.lengths), *flat.shape), torch.where(alive, self.index, 0), alive)

    def scatter(self, rows: Tensor) -> Tensor:
        """The inverse of ``gather``; zero where there was no token."""
        if self.index is None:
            return rows
        alive = torch.arange(self.index.shape[1]) < self.lengths[:, None]
        flat = rows.new_zeros(self.shape[0] * self.shape[1], *rows.shape[2:])
        where = self.index[alive].to(rows.device)
        return flat.index_copy(0, where, rows[alive.to(rows.device)]).unflatten(0, self.shape)


class Given(NamedTuple):
    """What a memory is given in one call, as rows of real tokens."""

    x: Tensor  # what is read with [rows, longest, dim]
    keys: Tensor  # what keys and gates are made of
    values: Tensor  # what values are made of
    lengths: Tensor  # [rows], on the host
    writes: Tensor | None  # [rows, longest]
    emphasis: Tensor | None  # [rows, longest]


def check_stream(x: Tensor, dim: int, **per_token: Tensor | None) -> None:
    """Refuse a stream that is not [batch, time, dim], and what has not one entry for each of its tokens.

    Raises:
        ValueError: The message names what does not fit.
    """
    if x.ndim != 3 or x.shape[-1] != dim:
        raise ValueError(f"this memory reads a stream of width {dim}, got x of shape {list(x.shape)}; it must be [batch, time, {dim}].")
    for name, given in per_token.items():
        if given is not None and given.shape != x.shape[:2]:
            raise ValueError(f"{name} has one entry for each token, [batch, time] = {list(x.shape[:2])}; got {list(given.shape)}.")


def check_batch(held: int, batch: int) -> None:
    """Refuse a state of other rows than the input's.

    Raises:
        StateMismatch: The numbers differ.
    """
    if held != batch:
        raise StateMismatch(
            f"the state has {held} rows and the input {batch}. Choose rows with state[...], or start a state with memory.start({batch})."
        )
