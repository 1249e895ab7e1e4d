"""Plain gradient descent."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .optimizer import AbstractOptimizer, State


class GradientDescent(AbstractOptimizer):
    r"""$W_{t+1} = W_t - \eta\,\nabla_W \mathcal L(W_t; x_t)$.

    Source: Nested Learning equations 1, 8, 54.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.

    Raises:
        ValueError: ``lr`` is negative.

    Examples:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> weight.grad = torch.tensor([2.0])
        >>> GradientDescent([weight], lr=0.25).step()
        >>> weight.item()
        0.5
    """

    def __init__(self, params: Iterable[Any], lr: float | Tensor = 1e-2) -> None:
        super().__init__(params, lr=lr)

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        return weight - options["lr"] * gradient, state

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        torch._foreach_add_(weights, gradients, alpha=-float(options["lr"]))
        return states
