"""The length of errors, which has a corner at zero."""

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
