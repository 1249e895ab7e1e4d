"""One over the root of a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def inverse_root(x: Tensor, eps: float = 0.0) -> Tensor:
    r"""$U\,\mathrm{diag}(1 / (\sqrt{\lambda_i} + \epsilon))\,U^\top$ for $x = U\,\mathrm{diag}(\lambda)\,U^\top$: $x^{-1/2}$ where $\epsilon$ is zero.

    Where the matrix has nothing, as far as rounding lets one tell, its inverse has nothing: eigenvalues below the largest times $n$ times the precision of the
    type count as zero, and as zero when inverted. Gradients stay finite where eigenvalues are equal.

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
        floor = values[..., -1:] * values.shape[-1] * torch.finfo(x.dtype).eps
        known = values > floor.clamp(min=0)
        roots = torch.where(known, values, 1.0).sqrt()
        inverses = torch.where(known, 1 / (roots + eps), 0.0)
        ctx.save_for_backward(torch.where(known, roots, 0.0), inverses, vectors)
        return (vectors * inverses.unsqueeze(-2)) @ vectors.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        roots, inverses, vectors = ctx.saved_tensors
        a, b, f, g = roots.unsqueeze(-1), roots.unsqueeze(-2), inverses.unsqueeze(-1), inverses.unsqueeze(-2)
        # The divided differences (f - g) / (a^2 - b^2), where both are known: -f g / (a + b).
        sums = torch.where(a + b > 0, a + b, 1.0)
        weights = torch.where((f > 0) & (g > 0), -f * g, (f + g) / sums) / sums
        (slope,) = slopes
        found = vectors @ (weights * (vectors.mT @ slope @ vectors)) @ vectors.mT
        return (found + found.mT) / 2, None
