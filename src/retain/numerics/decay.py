"""Products of consecutive factors, without a division or a logarithm, so that factors of exactly 0 and 1 are as good as any other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def products(factors: Tensor) -> Tensor:
    r"""All products of consecutive factors: $P_{t,i} = \prod_{j=i+1}^{t} a_j$ for $i \le t$, else 0.

    It is the inverse of the bidiagonal matrix $I - \mathrm{diag}(a)\,L$ ($L$ shifts by one), and solves $s_t = a_t s_{t-1} + x_t$ as $s = P x$.

    Args:
        factors: $a$ [..., n].

    Returns:
        $P$ [..., n, n].

    Examples:
        >>> products(torch.tensor([0.5, 0.5, 0.0]))
        tensor([[1.0000, 0.0000, 0.0000],
                [0.5000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    return _Products.apply(factors)


def running(factors: Tensor, matrix: Tensor) -> Tensor:
    r"""Products from the start, $\prod_{j \le t} a_j$ [..., n], read off ``products(factors)``."""
    return matrix[..., :, 0] * factors[..., :1]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factors: Tensor) -> Tensor:
        n = factors.shape[-1]
        later = torch.ones(n, n, dtype=torch.bool, device=factors.device).triu(1)  # [i, t] with t > i
        result = torch.where(later, factors.unsqueeze(-2), 1.0).cumprod(-1).triu_().transpose(-1, -2)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        # P = T^-1 with T = I - diag(a) L, hence dP = P diag(da) L P
        (result,) = ctx.saved_tensors
        turned = result.transpose(-1, -2)
        sandwich = turned @ grad_outputs[0] @ turned
        return torch.cat([torch.zeros_like(sandwich[..., :1, 0]), sandwich.diagonal(-1, -2, -1)], dim=-1)
