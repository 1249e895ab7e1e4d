"""Momentum by the delta rule: what comes in again takes the place of what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .feature_map_momentum import check_maps
from .matrices import as_matrix, norm
from .optimizer import AbstractOptimizer, State, check_choice, check_share

Granularity = Literal["matrix", "elementwise", "scalar"]


class DeltaMomentum(AbstractOptimizer):
    r"""$m_{t+1} = m_t (\alpha I - \eta\,G_t^\top G_t) - \eta\,P\,G_t$, $W_{t+1} = W_t + m_{t+1}$: descent on $\frac12 \lVert m G_t^\top + P \rVert_F^2$, with decay.

    The decay along a gradient depends on its size: $m$ stays bounded for sure while $\lvert \alpha - c\,\sigma(G)^2 \rvert \le 1$ for the singular values $\sigma$ of
    gradients and the rate $c$ of the decay. Normalise gradients to see to that: with ``limit`` at most $\sqrt{(1 + \alpha) / c}$ it holds. The paper prints
    $c = 1$ with a rate $\eta$ for the write alone; that is ``decay_lr=1.0``. A weight of more than two axes is a matrix of its first against the others, a
    vector one row. Source: Nested Learning equations 48 and 49.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, what lingers of the past apart from the delta rule.
        decay_lr: $c$; None for $\eta$, which descends.
        granularity: What decays: ``"matrix"`` the rows of $m$ along those of $G$; ``"elementwise"`` each number by its own $c\,g^2$; ``"scalar"`` all of $m$ by
            $c \lVert G \rVert_F^2$.
        limit: The largest Frobenius norm of a weight's gradient; larger ones are scaled down to it. None for no limit.
        precondition: $P$, a map from a gradient to one of its shape; None for the identity. Each leading index of what it is given must be a weight of its own
            where ``lead`` is not zero.

    Raises:
        ValueError: A number is out of its range, or a choice is unknown.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
        >>> optimizer = DeltaMomentum([weight], lr=0.5, alpha=1.0)
        >>> for _ in range(9):
        ...     weight.grad = torch.tensor([[1.0, 0.0]])
        ...     optimizer.step()
        >>> optimizer.state[weight]["momentum"]
        tensor([[-0.9980,  0.0000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.9,
        decay_lr: float | None = None,
        granularity: Granularity = "matrix",
        limit: float | None = None,
        precondition: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, decay_lr=decay_lr, granularity=granularity, limit=limit, precondition=precondition)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_share(f"{cls.__name__}.alpha", options["alpha"], most=1.0)
        check_choice(f"{cls.__name__}.granularity", options["granularity"], Granularity)
        check_maps(cls.__name__, options, "precondition")
        if options["decay_lr"] is not None and options["decay_lr"] < 0:
            raise ValueError(f"{cls.__name__}.decay_lr must be at least 0, or None, got {options['decay_lr']!r}.")
        if options["limit"] is not None and options["limit"] <= 0:
            raise ValueError(f"{cls.__name__}.limit must be positive, or None, got {options['limit']!r}.")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        return {"momentum": torch.zeros_like(weight)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        lr, limit, precondition, momentum = options["lr"], options["limit"], options["precondition"], state["momentum"]
        if limit is not None:
            gradient = gradient * (limit / norm(gradient, lead).clamp(min=limit))
        rate = lr if options["decay_lr"] is None else options["decay_lr"]
        match options["granularity"]:
            case "matrix":
                m, g = as_matrix(momentum, lead), as_matrix(gradient, lead)
                seen = (m @ g.mT @ g).reshape(weight.shape)
            case "elementwise":
                seen = momentum * gradient.square()
            case _:
                seen = momentum * norm(gradient, lead).square()
        value = precondition(gradient) if precondition else gradient
        momentum = options["alpha"] * momentum - rate * seen - lr * value
        return weight + momentum, {"momentum": momentum}
