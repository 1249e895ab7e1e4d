"""AdaGrad whose second moment is a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from retain.numerics import inverse_root

from .averages import Moment, check_moments, counter, moment
from .matrices import as_matrix
from .optimizer import AbstractOptimizer, State


class MatrixAdaGrad(AbstractOptimizer):
    r"""$W_{t+1} = W_t - \frac{\eta}{\sqrt{\beta_2}} H^{-1/2} \tilde M$ with $H = \beta_2 \sum_i G_i G_i^\top$ [rows, rows] and $\tilde M = \beta_1 \sum_i G_i$.

    For a vector this is full-matrix AdaGrad, for a matrix one-sided Shampoo with the exponent $-\frac12$. It is the memory that maps gradients to
    $P = (\sum G G^\top)^{1/2}$, where that and $\tilde M$ commute; elsewhere the formula is the definition. By default $\tilde M$ is the gradient of now. Either moment
    may be a decayed average instead, corrected for its start or not, and then has no $\beta_2$ in front of its step. A weight of more than two axes is a matrix
    of its first against the others, a vector one column. Each step takes an eigendecomposition of $H$: give what has many rows another optimizer.
    Source: Nested Learning equations 106 to 111.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        betas: $\beta_1$ of $\tilde M$ and $\beta_2$ of $H$: decays of averages, weights of the summands of sums.
        eps: Added to the roots of the eigenvalues of $H$. Where these are zero, nothing moves.
        momentum: What $\tilde M$ is: ``"sum"``, which never forgets a gradient; ``"ema"``; or ``"corrected"``.
        squares: What $H$ is.

    Raises:
        ValueError: A number is out of its range, or a choice is unknown.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 3))
        >>> weight.grad = torch.tensor([[3.0, 0.0, 0.0], [0.0, -0.2, 0.0]])
        >>> MatrixAdaGrad([weight], lr=0.5).step()
        >>> weight.data
        tensor([[-0.5000,  0.0000,  0.0000],
                [ 0.0000,  0.5000,  0.0000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.0, 1.0),
        eps: float = 1e-8,
        momentum: Moment = "ema",
        squares: Moment = "sum",
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, momentum=momentum, squares=squares)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_moments(cls.__name__, options)

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        rows = _columns(weight, lead).shape[-2]
        return {
            "momentum": torch.zeros_like(weight),
            "squares": weight.new_zeros(*weight.shape[:lead], rows, rows),
            "step": counter(weight, lead),
        }

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        (beta, beta_squares), step, g = options["betas"], state["step"] + 1, _columns(gradient, lead)
        kept, m = moment(state["momentum"], gradient, beta, options["momentum"], step)
        kept_squares, h = moment(state["squares"], g @ g.mT, beta_squares, options["squares"], step)
        summand = beta_squares if options["squares"] == "sum" else 1.0
        divisor = inverse_root(h.to(torch.promote_types(h.dtype, torch.float32)), options["eps"]).to(h.dtype)
        found = (divisor @ _columns(m, lead)).reshape(weight.shape) / summand**0.5
        return weight - options["lr"] * found, {"momentum": kept, "squares": kept_squares, "step": step}


def _columns(x: Tensor, lead: int) -> Tensor:
    return as_matrix(x, lead) if x.ndim > lead + 1 else x.reshape(*x.shape[:lead], -1, 1)
