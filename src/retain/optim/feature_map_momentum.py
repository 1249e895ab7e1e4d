"""Momentum of features of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .optimizer import AbstractOptimizer, State, check_share


class FeatureMapMomentum(AbstractOptimizer):
    r"""$m_{t+1} = \alpha\,m_t - \eta\,P\,\phi(G_t)$, $W_{t+1} = W_t + m_{t+1}$, with $\phi(g) = \mathrm{sign}(g)\,\lvert g \rvert^p$ for each number of $G$.

    At $p = 1$ this is ``Momentum``, at $p = 0$ the momentum of signs. Source: Nested Learning equation 51, which leaves $\phi$ open.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, what lingers of the past.
        power: $p$.
        features: Another $\phi$ that keeps the gradient's shape; ``power`` is not looked at then. Each leading index of what it is given must be a weight of
            its own where ``lead`` is not zero.
        precondition: $P$, a map of the same kind; None for the identity.

    Raises:
        ValueError: ``lr`` or ``power`` is negative, ``alpha`` outside [0, 1], or a map is no function.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([4.0, -9.0])
        >>> FeatureMapMomentum([weight], lr=1.0, power=0.5).step()
        >>> weight.data
        tensor([-2.,  3.])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.9,
        power: float = 0.5,
        features: Callable[[Tensor], Tensor] | None = None,
        precondition: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, power=power, features=features, precondition=precondition)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_share(f"{cls.__name__}.alpha", options["alpha"], most=1.0)
        if not options["power"] >= 0:
            raise ValueError(f"{cls.__name__}.power must be at least 0, got {options['power']!r}.")
        check_maps(cls.__name__, options, "features", "precondition")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        return {"momentum": torch.zeros_like(weight)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        features, precondition = options["features"], options["precondition"]
        found = features(gradient) if features else signed_power(gradient, options["power"])
        value = precondition(found) if precondition else found
        momentum = options["alpha"] * state["momentum"] - options["lr"] * value
        return weight + momentum, {"momentum": momentum}


def check_maps(owner: str, options: Mapping[str, Any], *names: str) -> None:
    """Refuse what is neither a function nor None.

    Raises:
        ValueError: The message names it.
    """
    for name in names:
        if options[name] is not None and not callable(options[name]):
            raise ValueError(f"{owner}.{name} must be a function of a gradient, or None, got {options[name]!r}.")


def signed_power(x: Tensor, power: float) -> Tensor:
    r"""$\mathrm{sign}(x)\,\lvert x \rvert^p$, whose gradient at zero is zero for $p$ below one."""
    if power == 1:
        return x
    return x.sign() * torch.where(x == 0, 1.0, x).abs() ** power
