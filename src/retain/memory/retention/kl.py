"""Retention on the simplex: weights are shares, and what is learnt by one entry is forgotten by the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from retain.core.contracts import AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each_matrix

from .decay import decayed


@dataclass(frozen=True, kw_only=True)
class KL(AbstractRetention):
    r"""$W_t = c\,\mathrm{softmax}\bigl((1 - \lambda_t) \log W_{t-1} + \Delta_t\bigr)$: all weights are positive and their sum is $c$.

    It is the minimiser of $\langle W, g_t \rangle + \tfrac1\eta \mathrm{KL}(W \,\|\, W_{t-1}) + \tfrac1\alpha \sum W \log W$ on the scaled simplex, with
    $\lambda = \tfrac1\alpha / (\tfrac1\alpha + \tfrac1\eta)$ and $\Delta = -g_t / (\tfrac1\alpha + \tfrac1\eta)$. The accumulator holds logarithms up to a constant,
    which the softmax does not see. Initial weights, times ``contrast``, are taken as such logarithms. Vectors of a memory, such as gains, are no shares;
    they decay. Source: MIRAS equations 19 to 21 (with $W_{t-1}$ for the printed $W_t$ in the divergence) and, for Memora, 27.

    Symbols: ``retain`` is $1 - \lambda_t$, ``total`` $c$.

    Args:
        total: $c$, of each simplex.
        over: What sums to ``total``: ``"all"`` entries of a weight tensor, as derived, or each ``"slice"`` along its last axis.
        contrast: How far apart the logarithms start. Where all shares start nearly equal, all keys look nearly alike to a memory. The paper leaves the start
            open.

    Raises:
        ValueError: The total or the contrast is not positive, or ``over`` is unknown.

    Examples:
        >>> import torch
        >>> KL(total=4.0, over="all").expose({"w": torch.zeros(1, 1, 2, 2)})["w"].flatten()
        tensor([1., 1., 1., 1.])
    """

    total: float = 1.0
    over: Literal["all", "slice"] = "slice"
    contrast: float = 1.0

    def __post_init__(self) -> None:
        if self.total <= 0:
            raise ValueError(f"KL.total must be positive, got {self.total}.")
        if self.contrast <= 0:
            raise ValueError(f"KL.contrast must be positive, got {self.contrast}: equal shares cannot tell keys apart.")
        if self.over not in ("all", "slice"):
            raise ValueError(f"KL.over must be 'all' or 'slice', got {self.over!r}.")

    @property
    def gate(self) -> Literal["none", "head", "channel"]:
        return "head"

    @property
    def linear(self) -> bool:
        return True

    def start(self, params: Params, lead: int = 2) -> Params:
        return each_matrix(lambda w: self.contrast * w, lead, params)

    def keep(self, accumulator: Params, step: Step) -> Params:
        return decayed(self, accumulator, step)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        if self.over == "slice":
            return each_matrix(lambda a: self.total * a.softmax(-1), lead, accumulator)
        return each_matrix(lambda a: self.total * a.flatten(lead).softmax(-1).view(a.shape), lead, accumulator)

    def canonical(self, accumulator: Params, lead: int = 2) -> Params:
        """The logarithms of the weights."""
        log = math.log(self.total)
        if self.over == "slice":
            return each_matrix(lambda a: log + a.log_softmax(-1), lead, accumulator)
        return each_matrix(lambda a: log + a.flatten(lead).log_softmax(-1).view(a.shape), lead, accumulator)
