"""One over the root of a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def inverse_root(x: Tensor, eps: float = 0.0) -> Tensor:
    r"""$U\,\mathrm{diag}(1 / (\sqrt{\lambda_i} + \epsilon))\,U^\top$ for $x = U\,\mathrm{diag}(\lambda)\,U^\top$: $x^{-1/2}$ where $\epsilon$ is zero.

    Eigenvalues that rounding makes negative count as zero. Gradients stay finite where eigenvalues are equal, and are zero along pairs of zeros.

    Args:
        x: Symmetric, positive semi-definite matrices [..., n, n].
        eps: Added to the roots.

    Examples:
        >>> inverse_root(torch.diag(torch.tensor([4.0, 16.0])))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.2500]])
    """
    found: Tensor = _InverseRoot.apply(x, eps)
    return found


class _InverseRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        values, vectors = torch.linalg.eigh(x)
        roots = values.clamp(min=0).sqrt()
        ctx.save_for_backward(roots, vectors)
        ctx.eps = eps
        return (vectors / (roots + eps).unsqueeze(-2)) @ vectors.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = slopes
        roots, vectors = ctx.saved_tensors
        pairs, raised = roots.unsqueeze(-1) + roots.unsqueeze(-2), roots + ctx.eps
        known = pairs > 0
        weights = torch.where(known, -1 / (torch.where(known, pairs, 1.0) * raised.unsqueeze(-1) * raised.unsqueeze(-2)), 0.0)
        found = vectors @ (weights * (vectors.mT @ slope @ vectors)) @ vectors.mT
        return (found + found.mT) / 2, None
