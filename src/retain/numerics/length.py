"""Lengths: of errors, which have a corner at zero, and of what is made one long."""

from __future__ import annotations

import torch
from torch import Tensor


def length(r: Tensor) -> Tensor:
    """Euclidean lengths [...] of errors [..., value], whose derivatives are zero, not undefined, where the error is.

    Examples:
        >>> length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([5., 0.])
    """
    square = r.square().sum(-1)
    there = square > 0
    return torch.where(there, torch.where(there, square, torch.ones_like(square)).sqrt(), torch.zeros_like(square))


def unit(x: Tensor) -> Tensor:
    """``x`` [..., width] made one long, but for what is next to nothing.

    Examples:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
