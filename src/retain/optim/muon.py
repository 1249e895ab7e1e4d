"""Momentum whose matrices move by orthogonal steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .optimizer import AbstractOptimizer, State, check_share
from .orthogonal import NewtonSchulz, check_orthogonal, direction


class Muon(AbstractOptimizer):
    r"""$m_{t+1} = \alpha\,m_t + (1 - \alpha)\,\nabla_W \mathcal L(W_t; x_t)$, $W_{t+1} = (1 - \eta\lambda) W_t - \eta\,\mathrm{NewtonSchulz}_k(m_{t+1})$.

    Newton and Schulz' iteration knows no lengths, so an average in the place of the paper's $\alpha m - \eta \nabla \mathcal L$ changes nothing but the
    numbers in the buffer, and the step needs a rate of its own. With ``NewtonSchulz(precision="bfloat16")`` it is ``torch.optim.Muon``. A weight of more than
    two axes is a matrix of its first against the others. Vectors and numbers move by $-\eta\,m$; give embeddings a group with ``orthogonal=None``,
    which moves them so, too, or better an optimizer of their own. Source: Nested Learning equation 42.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        alpha: $\alpha$, below 1.
        nesterov: Step along $\alpha\,m_{t+1} + (1 - \alpha) \nabla \mathcal L$ instead.
        orthogonal: The iteration, at the scale ``"original"`` if it says none; None for none at all.
        weight_decay: $\lambda$, apart from the gradient.

    Raises:
        ValueError: ``lr`` or ``weight_decay`` is negative, ``alpha`` outside [0, 1), or ``orthogonal`` makes no sense.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
        >>> weight.grad = torch.tensor([[0.0, 5.0], [5.0, 0.0]])
        >>> Muon([weight], lr=0.5, orthogonal=NewtonSchulz("cubic")).step()
        >>> weight.data
        tensor([[ 0.0000, -0.5000],
                [-0.5000,  0.0000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        alpha: float = 0.95,
        nesterov: bool = False,
        orthogonal: NewtonSchulz | None = NewtonSchulz(),  # noqa: B008
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, nesterov=nesterov, orthogonal=orthogonal, weight_decay=weight_decay)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_share(f"{cls.__name__}.alpha", options["alpha"])
        check_orthogonal(f"{cls.__name__}.orthogonal", options["orthogonal"])

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        return {"momentum": torch.zeros_like(weight)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        alpha, lr = options["alpha"], options["lr"]
        momentum = state["momentum"].lerp(gradient, 1 - alpha)
        ahead = gradient.lerp(momentum, alpha) if options["nesterov"] else momentum
        move = direction(ahead, options["orthogonal"], "original", lead)
        return (1 - lr * options["weight_decay"]) * weight - lr * move, {"momentum": momentum}
