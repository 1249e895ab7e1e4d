"""Weights seen as matrices, and numbers that each belong to one weight."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.core.trees import stretch


def as_matrix(x: Tensor, lead: int) -> Tensor:
    """[*lead, rows, columns]: the first axis of each weight against all its others. A vector is one row, as is a number."""
    return x.flatten(lead + 1) if x.ndim > lead + 1 else x.reshape(*x.shape[:lead], 1, -1)


def root(x: Tensor) -> Tensor:
    """The square root, whose gradient at zero is zero."""
    return torch.where(x == 0, 0.0, torch.where(x == 0, 1.0, x).sqrt()) if torch.is_grad_enabled() else x.sqrt()


def norm(x: Tensor, lead: int) -> Tensor:
    """The Frobenius norm of each weight, with axes that let it multiply ``x``."""
    return stretch(root(as_matrix(x, lead).square().sum((-1, -2))), x)
