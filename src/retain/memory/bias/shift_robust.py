"""Attentional bias against the worst small shift of the value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractBias
from retain.numerics import length


@dataclass(frozen=True, kw_only=True)
class ShiftRobust(AbstractBias):
    r"""$\ell(y, v) = \max_{\lVert s \rVert_2 \le \Delta} \tfrac12 \lVert y - (v + s) \rVert_2^2 = \tfrac12 (\lVert r \rVert_2 + \Delta)^2$ with $r = y - v$.

    The worst shift is $-\Delta r / \lVert r \rVert$, and the gradient $r + \Delta r / \lVert r \rVert$; at $r = 0$, where every shift is as bad, it is zero.
    Source: MIRAS equation 17.

    Args:
        radius: $\Delta$.

    Raises:
        ValueError: The radius is negative.

    Examples:
        >>> ShiftRobust(radius=1.0).loss(torch.tensor([3.0, 4.0]), torch.zeros(2))
        tensor(18.)
    """

    radius: float = 0.1

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError(f"ShiftRobust.radius must be 0 or more, got {self.radius}.")

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return (length(y - v) + self.radius).square() / 2

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        r = y - v
        size = length(r).unsqueeze(-1)
        return r + self.radius * r / torch.where(size > 0, size, torch.ones_like(size))
