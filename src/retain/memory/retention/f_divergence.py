"""Retention by an f-divergence on the scaled simplex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from retain.core.contracts import AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each_matrix

HALVINGS = 80  # of the range in which the multiplier lies: more than float64 can tell apart


@dataclass(frozen=True, kw_only=True)
class FDivergence(AbstractRetention):
    r"""$W_t = W_{t-1} \odot g(\Delta_t - \zeta_t)$ with $g = (f')^{-1}$, and $\zeta_t$ such that the entries, none negative, sum to $c$.

    It is the minimiser of $\langle W, g_t \rangle + \tfrac1\eta \sum W_{t-1} f(W / W_{t-1})$ on the scaled simplex, with $\Delta = -\eta g_t$. ``"kl"``:
    $f = \tau \ln \tau$, which is ``KL`` that keeps all. ``"chi_square"``: $f = (\tau - 1)^2$, $g(s) = 1 + s/2$ and no less than zero; an entry at zero
    stays there. Initial weights go through a softmax. Vectors of a memory, such as gains, are kept as they are. Source: MIRAS equation 18.

    Args:
        f: The divergence.
        total: $c$, of each weight tensor.

    Raises:
        ValueError: The total is not positive, or there is no such divergence.

    Examples:
        >>> gate = FDivergence(f="chi_square")
        >>> gate.moved({"w": torch.tensor([[[0.5, 0.5]]])}, {"w": torch.tensor([[[1.0, 0.0]]])}, Step(), lead=1)
        {'w': tensor([[[0.6250, 0.3750]]])}
    """

    f: Literal["kl", "chi_square"] = "chi_square"
    total: float = 1.0

    def __post_init__(self) -> None:
        if self.total <= 0:
            raise ValueError(f"FDivergence.total must be positive, got {self.total}.")
        if self.f not in ("kl", "chi_square"):
            raise ValueError(f"FDivergence.f must be 'kl' or 'chi_square', got {self.f!r}.")

    def start(self, params: Params, lead: int = 2) -> Params:
        return each_matrix(lambda w: self.total * w.flatten(lead).softmax(-1).view(w.shape), lead, params)

    def keep(self, accumulator: Params, step: Step) -> Params:
        return accumulator

    def moved(self, accumulator: Params, delta: Params, step: Step, lead: int = 2) -> Params:
        return each_matrix(lambda w, d: self._scaled(w.flatten(lead), d.flatten(lead)).view(w.shape), lead, accumulator, delta, vectors=torch.add)

    def _scaled(self, w: Tensor, delta: Tensor) -> Tensor:
        """The new weights of rows [..., entries]."""
        if self.f == "kl":
            raised = w * (delta - delta.amax(-1, keepdim=True)).exp()
            return self.total * raised / raised.sum(-1, keepdim=True)
        with torch.no_grad():
            low, high = delta.amin(-1, keepdim=True), delta.amax(-1, keepdim=True) + 2  # where the sum is at least c, and zero
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                much = (w * _share(delta, middle)).sum(-1, keepdim=True) > self.total
                low, high = torch.where(much, middle, low), torch.where(much, high, middle)
            zeta = (low + high) / 2
            slope = (w * (_share(delta, zeta) > 0)).sum(-1, keepdim=True) / 2
        excess = (w * _share(delta, zeta)).sum(-1, keepdim=True) - self.total
        zeta = zeta + excess / slope  # Newton's step, which knows how zeta moves with w and delta
        return w * _share(delta, zeta)


def _share(delta: Tensor, zeta: Tensor) -> Tensor:
    return (1 + (delta - zeta) / 2).clamp(min=0)
