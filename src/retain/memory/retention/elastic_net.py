"""Elastic net: soft forgetting that shrinks, and hard forgetting that sets to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from retain.core.contracts import AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each
from retain.numerics import smooth_threshold, soft_threshold

from .decay import decayed


@dataclass(frozen=True, kw_only=True)
class ElasticNet(AbstractRetention):
    r"""$W_t = S_\gamma(\lambda_t W_{t-1} + \Delta_t)$, or $W_t = S_\gamma(A_t)$ with $A_t = A_{t-1} + \Delta_t$.

    Entries whose pull does not pass the threshold $\gamma$ are zero. ``view="retain"`` is the minimiser of
    $\langle W, g_t \rangle + \tfrac{1}{2\eta}\lVert W - W_{t-1} \rVert^2 + \tfrac{1}{2\beta}\lVert W \rVert^2 + \tfrac1\alpha \lVert W \rVert_1$ with
    $\lambda = \beta / (\beta + \eta)$, $\gamma = \eta\lambda/\alpha$ and the step $\Delta = -\eta\lambda g_t$; ``view="leader"`` that of
    $\langle W, \sum_i g_i \rangle + \tfrac{1}{2\eta}\lVert W \rVert^2 + \tfrac1\alpha\lVert W \rVert_1$ with $\gamma = \eta/\alpha$. Source: MIRAS equations 22
    and 23 (whose printed $\tfrac1\eta\lVert W \rVert^2$ gives half of the printed weights).

    Symbols: ``retain`` is $\lambda_t$, ``threshold`` $\gamma$, the learner's step $\Delta_t$.

    Args:
        threshold: $\gamma$.
        view: ``"retain"``, learning and retaining; or ``"leader"``, follow the regularised leader, which has no ``retain`` gate.
        kind: ``"exact"``, or ``"smooth"``: $|x| \arctan(x/\gamma) / (\pi/2)$ for $S_\gamma(x)$, as the paper proposes; it never reaches zero.

    Raises:
        ValueError: The threshold is not positive, or the view or kind is unknown.

    Examples:
        >>> import torch
        >>> ElasticNet(threshold=0.5).expose({"w": torch.tensor([[[0.3, -2.0]]])})
        {'w': tensor([[[ 0.0000, -1.5000]]])}
    """

    threshold: float = 1e-3
    view: Literal["retain", "leader"] = "retain"
    kind: Literal["exact", "smooth"] = "exact"

    def __post_init__(self) -> None:
        if self.threshold <= 0:
            raise ValueError(
                f"ElasticNet.threshold must be positive, got {self.threshold}. Use retention.Decay() or Keep() for a memory without one."
            )
        if self.view not in ("retain", "leader") or self.kind not in ("exact", "smooth"):
            raise ValueError(f"ElasticNet.view is 'retain' or 'leader' and kind 'exact' or 'smooth', got {self.view!r} and {self.kind!r}.")

    @property
    def gate(self) -> Literal["none", "head", "channel"]:
        return "head" if self.view == "retain" else "none"

    def start(self, params: Params, lead: int = 2) -> Params:
        return params if self.kind == "smooth" else each(lambda w: w + self.threshold * w.sign(), params)

    @property
    def linear(self) -> bool:
        return self.view == "leader"

    def keep(self, accumulator: Params, step: Step) -> Params:
        if self.view == "leader":
            return accumulator
        return decayed(self, self.expose(accumulator), step)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        return each(self._small_to_zero, accumulator)

    def _small_to_zero(self, a: Tensor) -> Tensor:
        return soft_threshold(a, self.threshold) if self.kind == "exact" else smooth_threshold(a, self.threshold)
