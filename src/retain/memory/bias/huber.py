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
    Its section 5.4 has a threshold for each channel; the norm of an error has no channels, so these go with ``"coordinate"``.

    Args:
        kind: Which one.
        threshold: $\delta$.
        scaled: ``"never"``; or ``"by token"``: each token's ``threshold`` gate multiplies $\delta$, the paper's $\delta_t$; or ``"by channel"``: the gate has
            a number for each channel of the value.

    Raises:
        ValueError: The threshold is not positive, the kind is unknown, or it has no channels to scale.

    Examples:
        >>> Huber(kind="coordinate").grad(torch.tensor([0.5, -3.0]), torch.zeros(2))
        tensor([ 0.5000, -1.0000])
    """

    kind: Literal["coordinate", "norm", "mixture"] = "mixture"
    threshold: float = 1.0
    scaled: Literal["never", "by token", "by channel"] = "never"

    def __post_init__(self) -> None:
        if self.kind not in ("coordinate", "norm", "mixture"):
            raise ValueError(f"Huber.kind must be 'coordinate', 'norm' or 'mixture', got {self.kind!r}.")
        if self.scaled not in ("never", "by token", "by channel"):
            raise ValueError(f"Huber.scaled must be 'never', 'by token' or 'by channel', got {self.scaled!r}.")
        if self.scaled == "by channel" and self.kind != "coordinate":
            raise ValueError(
                f"Huber(kind={self.kind!r}) compares the norm of the error with its threshold, and a norm has no channels; scale it 'by token', or use "
                "kind='coordinate'."
            )
        if self.threshold <= 0:
            raise ValueError(f"Huber.threshold must be positive, got {self.threshold}: at zero nothing is ever written.")

    @property
    def gate(self) -> Literal["none", "token", "channel"]:
        return "none" if self.scaled == "never" else "token" if self.scaled == "by token" else "channel"

    def at(self, threshold: Tensor) -> AbstractBias:
        return self if self.scaled == "never" else _Huber(self.kind, self.threshold * threshold)

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return _Huber(self.kind, torch.full_like(y[..., :1], self.threshold)).loss(y, v)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        return _Huber(self.kind, torch.full_like(y[..., :1], self.threshold)).grad(y, v)


@dataclass(frozen=True)
class _Huber(AbstractBias):
    """The function itself, with a threshold for each token [..., tokens, 1], or for each of its channels [..., tokens, value]."""

    kind: str
    threshold: Tensor

    def loss(self, y: Tensor, v: Tensor) -> Tensor:
        r, delta = y - v, self.threshold
        if self.kind == "coordinate":
            size = r.abs()
            return torch.where(size <= delta, r.square() / 2, delta * (size - delta / 2)).sum(-1)
        size, delta = length(r), delta.squeeze(-1)
        far = delta * (size - delta / 2) if self.kind == "norm" else delta * r.abs().sum(-1)
        return torch.where(size <= delta, r.square().sum(-1) / 2, far)

    def grad(self, y: Tensor, v: Tensor) -> Tensor:
        r, delta = y - v, self.threshold
        if self.kind == "coordinate":
            return torch.where(r.abs() <= delta, r, delta * r.sign())
        size = length(r).unsqueeze(-1)
        far = delta * r / torch.where(size > 0, size, torch.ones_like(size)) if self.kind == "norm" else delta * r.sign()
        return torch.where(size <= delta, r, far)
