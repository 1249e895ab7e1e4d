"""Momentum: a memory of past gradients, of one number for each."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .optimizer import AbstractOptimizer, State, check_share


class Momentum(AbstractOptimizer):
    r"""$m_{t+1} = \alpha\,m_t - \eta\,\nabla_W \mathcal L(W_t; x_t)$, $W_{t+1} = W_t + m_{t+1}$.

    With constant options the same as ``torch.optim.SGD(momentum=alpha)``. Source: Nested Learning equations 10 to 13, 33, 34, 100.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, what lingers of past gradients; at 1 all of it does.

    Raises:
        ValueError: ``lr`` is negative, or ``alpha`` outside [0, 1].

    Examples:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = Momentum([weight], lr=0.25, alpha=0.5)
        >>> for _ in range(2):
        ...     weight.grad = torch.tensor([1.0])
        ...     optimizer.step()
        >>> weight.item()
        0.375
    """

    def __init__(self, params: Iterable[Any], lr: float | Tensor = 1e-2, alpha: float = 0.9) -> None:
        super().__init__(params, lr=lr, alpha=alpha)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_share(f"{cls.__name__}.alpha", options["alpha"], most=1.0)

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        return {"momentum": torch.zeros_like(weight)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        momentum = options["alpha"] * state["momentum"] - options["lr"] * gradient
        return weight + momentum, {"momentum": momentum}

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        momenta = [state["momentum"] for state in states]
        torch._foreach_mul_(momenta, options["alpha"])
        torch._foreach_add_(momenta, gradients, alpha=-float(options["lr"]))
        torch._foreach_add_(weights, momenta)
        return states
