"""Products of vectors and matrices whose sums are taken in one written order.

A library's matrix product adds in whatever order suits the processor, so its last digits differ from machine to machine. Here every sum is a tree of
additions of rows or columns, and additions and multiplications of single numbers are the same everywhere: so are the weights, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 512  # worked on together, so that they stay near the processor
FEW = 32  # numbers that are added up one after the other


def by_rows(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight``: [in] and [in, out] to [out]."""
    if weight.shape[0] <= ROWS:
        return _rows_summed(weight * x[:, None]) if weight.shape[0] else weight.new_zeros(weight.shape[1])
    total = weight.new_zeros(weight.shape[1])
    for at in range(0, weight.shape[0], ROWS):
        total += _rows_summed(weight[at : at + ROWS] * x[at : at + ROWS, None])
    return total


def by_columns(weight: Tensor, d: Tensor) -> Tensor:
    """``weight @ d``: [in, out] and [out] to [in]."""
    if weight.shape[0] <= ROWS:
        return _columns_summed(weight * d)
    return torch.cat([_columns_summed(weight[at : at + ROWS] * d) for at in range(0, weight.shape[0], ROWS)])


def product(x: Tensor, y: Tensor) -> float:
    """The inner product of two vectors."""
    rest = _halved(x * y, FEW)
    return sum(rest.tolist())


def squared(x: Tensor) -> float:
    """The sum of the squares of a vector."""
    return product(x, x)


def _rows_summed(t: Tensor) -> Tensor:
    """The sum of the rows, of which ``t`` is used up."""
    return _halved(t, 1)[0]


def _columns_summed(t: Tensor) -> Tensor:
    """The sum of the columns, of which ``t`` is used up."""
    return _halved(t.T, 1)[0]


def _halved(t: Tensor, most: int) -> Tensor:
    """The lower half of the rows added to the upper one, over and over, until no more than ``most`` are left; ``t`` is used up."""
    n = t.shape[0]
    while n > most:
        half = n // 2
        if n % 2:
            t[0].add_(t[n - 1])
        t = t[:half].add_(t[half : 2 * half])
        n = half
    return t
