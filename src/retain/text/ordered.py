"""Products of vectors and matrices whose sums are taken in one written order.

A library's matrix product adds in whatever order suits the processor, so its last digits differ from machine to machine. Here every sum is a tree of
additions of rows or columns, and additions and multiplications of single numbers are the same everywhere: so are the weights, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 256  # worked on together, so that they stay near the processor


def forward(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight``: [in] and [in, out] to [out]. Rows that are multiplied by zero are left out."""
    there = x.nonzero()[:, 0]
    if len(there) < len(x):
        x, weight = x[there], weight[there]
    total = weight.new_zeros(weight.shape[1])
    for at in range(0, len(weight), ROWS):
        total += _rows_summed(weight[at : at + ROWS] * x[at : at + ROWS, None])
    return total


def backward(weight: Tensor, d: Tensor, where: Tensor) -> Tensor:
    """``weight @ d`` in the places of a mask ``where`` [in], and zero elsewhere: [in, out] and [out] to [in]."""
    there = where.nonzero()[:, 0]
    out, rows = weight.new_zeros(len(weight)), weight[there]
    if len(there):
        out[there] = torch.cat([_columns_summed(rows[at : at + ROWS] * d) for at in range(0, len(rows), ROWS)])
    return out


def squared(x: Tensor) -> float:
    """The sum of the squares of a vector."""
    return float(_rows_summed((x * x)[:, None]))


def _rows_summed(t: Tensor) -> Tensor:
    """The sum of the rows, of which ``t`` is used up."""
    n = len(t)
    while n > 1:
        half = n // 2
        rest = t[n - 1] if n % 2 else None
        t = t[:half].add_(t[half : 2 * half])
        if rest is not None:
            t[0].add_(rest)
        n = half
    return t[0]


def _columns_summed(t: Tensor) -> Tensor:
    n = t.shape[1]
    while n > 1:
        half = n // 2
        rest = t[:, n - 1] if n % 2 else None
        t = t[:, :half].add_(t[:, half : 2 * half])
        if rest is not None:
            t[:, 0].add_(rest)
        n = half
    return t[:, 0]
