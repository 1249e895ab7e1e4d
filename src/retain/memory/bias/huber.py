"""Huber attentional bias: squares for small errors, no more than a bounded pull for large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractBias
from retain.numerics import length


@dataclass(frozen=True, kw_only=True)
class Huber(AbstractBias):
    r"""With $r = y - v$ and the threshold $\delta$, three readings of Huber's function $H(a) = a^2/2$ for $|a| \le \delta$, else $\delta(|a| - \delta/2)$.

    ``"coordinate"``: $\sum_j H(r_j)$, whose gradient is $r$ clipped to $\pm\delta$. ``"norm"``: $H(\lVert r \rVert_2)$, whose gradient is
    $\min(1, \delta / \lVert r \rVert)\, r$. ``"mixture"``: $\lVert r \rVert_2^2 / 2$ if $\lVert r \rVert_2 \le \delta$, else $\delta \lVert r \rVert_1$, with
    gradient $\delta\,\mathrm{sign}(r)$; the paper calls it smooth, but it jumps at the threshold. Source: MIRAS equations 13 to 16; Yaad uses the last.

    Args:
        kind: Which one.
        threshold: $\delta$.
        scaled: ``"never"``, or ``"by token"``: each token's ``threshold`` gate multiplies $\delta$, the paper's $\delta_t$.

    Raises:
        ValueError: The threshold is not positive, or the kind is unknown.

    Examples:
        >>> Huber(kind="coordinate").grad(torch.tensor([0.5, -3.0]), torch.zeros(2))
        tensor([ 0.5000, -1.0000])
    """

    kind: Literal["coordinate", "norm", "mixture"] = "mixture"
    threshold: float = 1.0
    scaled: Literal["never", "by token"] = "never"

    def __post_init__(self) -> None:
        if self.kind not in ("coordinate", "norm", "mixture"):
            raise ValueError(f"Huber.kind must be 'coordinate', 'norm' or 'mixture', got {self.kind!r}.")
        if self.scaled not in ("never", "by token"):
            raise ValueError(f"Huber.scaled must be 'never' or 'by token', got {self.scaled!r}.")
        if self.threshold <= 0:
            raise ValueError(f"Huber.threshold must be positive, got {self.threshold}: at zero nothing is ever written.")

    @property
    def gate(self) -> Literal["none", "token"]:
        return "none" if self.scaled == "never" else "token"

    def at(self, threshold: Tensor) -> AbstractBias:
        return self if self.scaled == "never" else _Huber(self.kind, self.threshold * threshold)

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return _Huber(self.kind, torch.full_like(y[..., 0], self.threshold)).loss(y, v)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        return _Huber(self.kind, torch.full_like(y[..., 0], self.threshold)).grad(y, v)


@dataclass(frozen=True)
class _Huber(AbstractBias):
    """The function itself, with a threshold for each token [..., tokens]."""

    kind: str
    threshold: Tensor

    def loss(self, y: Tensor, v: Tensor) -> Tensor:
        r, delta = y - v, self.threshold
        if self.kind == "coordinate":
            size, delta = r.abs(), delta.unsqueeze(-1)
            return torch.where(size <= delta, r.square() / 2, delta * (size - delta / 2)).sum(-1)
        size, square = length(r), r.square().sum(-1) / 2
        far = delta * (size - delta / 2) if self.kind == "norm" else delta * r.abs().sum(-1)
        return torch.where(size <= delta, square, far)

    def grad(self, y: Tensor, v: Tensor) -> Tensor:
        r, delta = y - v, self.threshold.unsqueeze(-1)
        if self.kind == "coordinate":
            return torch.where(r.abs() <= delta, r, delta * r.sign())
        size = length(r).unsqueeze(-1)
        far = delta * r / torch.where(size > 0, size, torch.ones_like(size)) if self.kind == "norm" else delta * r.sign()
        return torch.where(size <= delta, r, far)
