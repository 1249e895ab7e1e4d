"""Rows of different lengths and phases, laid on one grid of tiles so that all of them can be worked on together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each row lie on a grid of ``tile`` cells a tile.

    Row ``b`` has ``lengths[b]`` tokens, the first of them ``phase[b]`` cells behind the start of a tile. Rows are shifted by whole tiles so that all
    of them end in the last one; the cells that no token fills are dead.

    Args:
        phase: Cells of its first tile that each row skips [batch], less than ``tile``, on the host.
        lengths: Tokens of each row [batch], on the host.
        tile: Cells of a tile.

    Examples:
        >>> layout = Layout(torch.tensor([0, 1]), torch.tensor([5, 2]), tile=4)
        >>> layout.place(torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]])).tolist()
        [[1, 2, 3, 4, 5, 0, 0], [0, 0, 0, 0, 0, 6, 7]]
    """

    phase: Tensor
    lengths: Tensor
    tile: int

    @cached_property
    def _tiles_of_row(self) -> Tensor:
        return (-(-(self.phase + self.lengths) // self.tile)).clamp(min=1)

    @cached_property
    def tiles(self) -> int:
        return int(self._tiles_of_row.max())

    @cached_property
    def offset(self) -> Tensor:
        """The cell of each row's first token [batch]."""
        return (self.tiles - self._tiles_of_row) * self.tile + self.phase

    @cached_property
    def end(self) -> Tensor:
        """The cell behind each row's last token [batch]."""
        return self.offset + self.lengths

    @cached_property
    def cells(self) -> int:
        return int(self.end.max())

    @cached_property
    def uniform(self) -> bool:
        """Whether all rows lie alike, which is the common case and needs no gathering."""
        return bool((self.offset == self.offset[0]).all()) and bool((self.lengths == self.lengths[0]).all())

    def place(self, x: Tensor) -> Tensor:
        """Tokens [batch, time, ...] on the grid [batch, cells, ...]; dead cells are zero, whatever lay in the padding."""
        if self.uniform:
            x, before = x[:, : int(self.lengths[0])], int(self.offset[0])
            return torch.cat([x.new_zeros(x.shape[0], before, *x.shape[2:]), x], dim=1) if before else x
        cell = torch.arange(self.cells)
        index = cell - self.offset[:, None]
        alive = (index >= 0) & (index < self.lengths[:, None])
        return gather(x, torch.where(alive, index, 0), alive)

    def take(self, grid: Tensor, time: int) -> Tensor:
        """The inverse of ``place``: what lies under each row's tokens [batch, time, ...]; zero behind a row's last token."""
        if self.uniform and int(self.lengths[0]) == time:
            return grid[:, int(self.offset[0]) : int(self.end[0])]
        index = torch.arange(time)
        alive = index < self.lengths[:, None]
        return gather(grid, torch.where(alive, index + self.offset[:, None], 0), alive)


def gather(x: Tensor, index: Tensor, alive: Tensor) -> Tensor:
    """``x[b, index[b, i]]`` where ``alive[b, i]``, else zero. ``x`` is [batch, time, ...]."""
    index, alive = index.to(x.device), alive.to(x.device)
    if x.shape[1] == 0:
        return x.new_zeros(x.shape[0], index.shape[1], *x.shape[2:])
    picked = x[torch.arange(x.shape[0], device=x.device)[:, None], index]
    return torch.where(alive.reshape(alive.shape + (1,) * (x.ndim - 2)), picked, torch.zeros((), dtype=x.dtype, device=x.device))


def join(first: Tensor, counts: Tensor, second: Tensor) -> Tensor:
    """Row by row, the first ``counts[b]`` entries of ``first`` followed by all of ``second`` [batch, max(counts) + time, ...]."""
    if bool((counts == first.shape[1]).all()):
        return torch.cat([first, second], dim=1) if first.shape[1] else second
    both = torch.cat([first, second], dim=1)
    cell = torch.arange(int(counts.max()) + second.shape[1])
    index = torch.where(cell < counts[:, None], cell, cell - counts[:, None] + first.shape[1])
    alive = index < both.shape[1]
    return gather(both, torch.where(alive, index, 0), alive)


def trim(x: Tensor, before: Tensor, time: int) -> Tensor:
    """Row by row, ``time`` entries of ``x`` [batch, entries, ...] behind the first ``before[b]``."""
    if bool((before == before[:1]).all()):
        start = int(before[0]) if len(before) else 0
        return x[:, start : start + time]
    index = before[:, None] + torch.arange(time)
    return gather(x, index, torch.ones_like(index, dtype=torch.bool))
