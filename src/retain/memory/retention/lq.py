"""Retention by the stability of a q-norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from retain.core.contracts import AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each_matrix, stretch

from .decay import decayed


@dataclass(frozen=True, kw_only=True)
class Lq(AbstractRetention):
    r"""$A_t = \alpha_t A_{t-1} + \Delta_t$, exposed through a q-norm, tensor by tensor.

    ``link="exact"``: $W = (q-1)\,\mathrm{sign}(A) \odot |A|^{p-1} / \lVert A \rVert_p^{p-2}$ with $p = q/(q-1)$, the minimiser of
    $-\langle W, A \rangle + \lVert W \rVert_q^2 / (2(q-1))$ for $1 < q \le 2$. ``link="norm"``: $W = A / \lVert A \rVert_q^{q-2}$, as the paper prints it and
    Moneta uses it with $q = 4$; the two agree at $q = 2$ alone. Source: MIRAS section 5.2, variant 4 (whose element-wise power was lost in print), and equation
    24. Norms and the start of Moneta are not stated there: ours are of each weight tensor, and a memory starts from weights of norm one.

    With the link ``"norm"`` and $q > 3$ larger accumulators expose smaller weights, and one that vanishes would expose infinite ones: norms are at
    least ``eps``. Vectors of a memory, such as gains, have no link; they decay.

    Symbols: ``retain`` is $\alpha_t$.

    Args:
        q: Of the norm.
        link: See above.
        eps: The least norm that is divided by.

    Raises:
        ValueError: ``q`` is out of the link's range, ``eps`` is not positive, or the link is unknown.

    Examples:
        >>> Lq(q=4, link="norm").expose({"w": torch.tensor([[[0.0, 2.0]]])}, lead=1)
        {'w': tensor([[[0.0000, 0.5000]]])}
    """

    q: float = 4.0
    link: Literal["exact", "norm"] = "norm"
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.link not in ("exact", "norm"):
            raise ValueError(f"Lq.link must be 'exact' or 'norm', got {self.link!r}.")
        if self.q <= 1 or (self.link == "exact" and self.q > 2):
            raise ValueError(f"Lq.q must be above 1, and at most 2 for link='exact', got {self.q}.")
        if self.eps <= 0:
            raise ValueError(f"Lq.eps must be positive, got {self.eps}.")

    @property
    def gate(self) -> Literal["none", "head", "channel"]:
        return "head"

    @property
    def linear(self) -> bool:
        return True

    def start(self, params: Params, lead: int = 2) -> Params:
        if self.link == "norm":
            return each_matrix(lambda w: w / self._norm(w, self.q, lead), lead, params)
        return each_matrix(lambda w: _signed_power(w, self.q - 1) * self._norm(w, self.q, lead) ** (2 - self.q) / (self.q - 1), lead, params)

    def keep(self, accumulator: Params, step: Step) -> Params:
        return decayed(self, accumulator, step)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        if self.link == "norm":
            return each_matrix(lambda a: a / self._norm(a, self.q, lead) ** (self.q - 2), lead, accumulator)
        p = self.q / (self.q - 1)
        return each_matrix(lambda a: (self.q - 1) * _signed_power(a, p - 1) / self._norm(a, p, lead) ** (p - 2), lead, accumulator)

    def frozen(self, anchor: Params, lead: int = 2) -> Params | None:
        if self.link != "norm":
            return None
        vectors = lambda a: torch.ones_like(a[..., :1])  # noqa: E731
        return each_matrix(lambda a: self._norm(a, self.q, lead) ** (2 - self.q), lead, anchor, vectors=vectors)

    def _norm(self, w: Tensor, order: float, lead: int) -> Tensor:
        """The norm of each weight tensor, with axes of length one behind it. A vanishing one has no derivative."""
        sums = w.abs().flatten(lead).pow(order).sum(-1)
        least = self.eps**order
        return stretch(sums.clamp(min=least).pow(1 / order), w)


def _signed_power(w: Tensor, exponent: float) -> Tensor:
    """``sign(w) |w| ** exponent``, whose derivative is zero, not infinite, where ``w`` is."""
    there = w != 0
    return w.sign() * torch.where(there, torch.where(there, w, torch.ones_like(w)).abs() ** exponent, torch.zeros_like(w))
