"""Attentional bias by a power of the error: how much outliers count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractBias


@dataclass(frozen=True, kw_only=True)
class Lp(AbstractBias):
    r"""$\ell(y, v) = \lVert r \rVert_p^p$ with $r = y - v$, whose gradient is $p\,\mathrm{sign}(r) \odot |r|^{p-1}$.

    ``p=2`` is ``L2(scale=1)``. ``p=1`` writes signs alone. Source: MIRAS equations 10 to 12 (with $W_{t-1}$ for the printed $W_t$) and remark 5.

    Args:
        p: 1 or more.
        surrogate: What stands for the corners of $|r|$ at zero. ``"exact"``: nothing; where the error is zero the gradient is. ``"consistent"``: the loss
            $\sum (r^2 + \epsilon)^{p/2} - \epsilon^{p/2}$ and its own gradient, $p\,r \odot (r^2 + \epsilon)^{(p-2)/2}$. ``"tanh"``: remark 5,
            $p \tanh(a r) \odot (r^2 + \epsilon)^{(p-1)/2}$, which is the gradient of no loss that can be written down; what is told as loss is that of
            ``"consistent"``.
        eps: $\epsilon$, $10^{-6}$ in MIRAS section 5.4.
        steepness: $a$, which the paper does not state.

    Raises:
        ValueError: ``p`` is below 1, ``eps`` or ``steepness`` is not positive, or the surrogate is unknown.

    Examples:
        >>> Lp(p=3).grad(torch.tensor([2.0, -1.0]), torch.tensor([0.0, 0.0]))
        tensor([12., -3.])
    """

    p: float = 3.0
    surrogate: Literal["exact", "consistent", "tanh"] = "exact"
    eps: float = 1e-6
    steepness: float = 100.0

    def __post_init__(self) -> None:
        if self.p < 1:
            raise ValueError(f"Lp.p must be at least 1, got {self.p}: below it the loss is not convex and its gradient is unbounded at zero.")
        if self.surrogate not in ("exact", "consistent", "tanh"):
            raise ValueError(f"Lp.surrogate must be 'exact', 'consistent' or 'tanh', got {self.surrogate!r}.")
        if self.eps <= 0 or self.steepness <= 0:
            raise ValueError(f"Lp.eps and Lp.steepness must be positive, got {self.eps} and {self.steepness}.")

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        r = y - v
        if self.surrogate == "exact":
            return _power(r.abs(), self.p).sum(-1)
        if self.surrogate == "tanh":
            return _Told.apply(r, self)
        return self._smooth(r)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        r = y - v
        if self.surrogate == "exact":
            return self.p * r.sign() * _power(r.abs(), self.p - 1)
        if self.surrogate == "tanh":
            return self._slope(r)
        return self.p * r * (r.square() + self.eps) ** (self.p / 2 - 1)

    def _smooth(self, r: Tensor) -> Tensor:
        return ((r.square() + self.eps) ** (self.p / 2) - self.eps ** (self.p / 2)).sum(-1)

    def _slope(self, r: Tensor) -> Tensor:
        return self.p * torch.tanh(self.steepness * r) * (r.square() + self.eps) ** ((self.p - 1) / 2)


class _Told(torch.autograd.Function):
    """A loss whose gradient is said and not derived. It can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, bias: Lp) -> Tensor:
        return bias._smooth(r)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Lp], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.bias = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (r,) = ctx.saved_tensors
        return grads[0].unsqueeze(-1) * ctx.bias._slope(r), None


def _power(size: Tensor, exponent: float) -> Tensor:
    """``size ** exponent`` whose derivatives are zero, not infinite, where ``size`` is zero."""
    if exponent == 0:
        return torch.ones_like(size)
    there = size > 0
    return torch.where(there, torch.where(there, size, torch.ones_like(size)) ** exponent, torch.zeros_like(size))
