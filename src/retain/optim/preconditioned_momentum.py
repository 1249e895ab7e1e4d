"""Momentum that binds gradients to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .averages import accumulated
from .matrices import root
from .optimizer import AbstractOptimizer, State, check_share


class PreconditionedMomentum(AbstractOptimizer):
    r"""$m_{t+1} = \alpha\,m_t - \eta\,P_t G_t$, $W_{t+1} = W_t + m_{t+1}$: a step of gradient descent on $\langle m G_t^\top, P_t \rangle$, with decay.

    The values $P_t$ are the paper's to choose; ``"second_moment"`` is the diagonal $1 / (\sqrt{v_t} + \epsilon)$ of the decayed average $v$ of squares, with which
    this is ``torch.optim.RMSprop(momentum=alpha)`` for a constant rate. Source: Nested Learning equations 46 and 47.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, what lingers of the past.
        precondition: $P$, as a map from a gradient to one of its shape; each leading index of it must be a weight of its own where ``lead`` is not zero.
        beta: The decay of the average of squares.
        eps: $\epsilon$.

    Raises:
        ValueError: A number is out of its range, or ``precondition`` is neither ``"second_moment"`` nor a function.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([1.0, 100.0])
        >>> PreconditionedMomentum([weight], lr=0.5, precondition=lambda g: g / torch.tensor([1.0, 100.0])).step()
        >>> weight.data
        tensor([-0.5000, -0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        alpha: float = 0.9,
        precondition: Literal["second_moment"] | Callable[[Tensor], Tensor] = "second_moment",
        beta: float = 0.99,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, precondition=precondition, beta=beta, eps=eps)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_share(f"{cls.__name__}.alpha", options["alpha"], most=1.0)
        check_share(f"{cls.__name__}.beta", options["beta"])
        if not callable(options["precondition"]) and options["precondition"] != "second_moment":
            raise ValueError(f"{cls.__name__}.precondition must be 'second_moment' or a function of the gradient, got {options['precondition']!r}.")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        names = ("momentum",) if callable(options["precondition"]) else ("momentum", "squares")
        return {name: torch.zeros_like(weight) for name in names}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        precondition, kept = options["precondition"], {}
        if callable(precondition):
            value = precondition(gradient)
        else:
            kept["squares"] = accumulated(state["squares"], gradient.square(), options["beta"], "ema")
            value = gradient / (root(kept["squares"]) + options["eps"])
        momentum = options["alpha"] * state["momentum"] - options["lr"] * value
        return weight + momentum, kept | {"momentum": momentum}
