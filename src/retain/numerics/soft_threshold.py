"""Soft thresholding, which sets what is small to zero and moves the rest towards it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def soft_threshold(x: Tensor, threshold: float) -> Tensor:
    r"""$S_\gamma(x) = \mathrm{sign}(x) \max(0, |x| - \gamma)$.

    Examples:
        >>> soft_threshold(torch.tensor([-3.0, 0.5, 2.0]), 1.0)
        tensor([-2.,  0.,  1.])
    """
    return x - x.clamp(-threshold, threshold)


def smooth_threshold(x: Tensor, threshold: float) -> Tensor:
    r"""$|x| \arctan(x / \gamma) / (\pi / 2)$: half of $x$ at the threshold, $x - 2\gamma/\pi$ far out, and zero at zero alone.

    Examples:
        >>> smooth_threshold(torch.tensor([1.0]), 1.0)
        tensor([0.5000])
    """
    return x.abs() * torch.atan(x / threshold) / (math.pi / 2)
