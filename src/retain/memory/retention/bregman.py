"""Mirror descent: steps are taken in the coordinates of a potential, and weights stay where it is finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from retain.core.contracts import AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each_matrix


@dataclass(frozen=True, kw_only=True)
class Bregman(AbstractRetention):
    r"""$W_t = g\bigl(F'(W_{t-1}) + \Delta_t\bigr)$ with $g = (F')^{-1}$, entry by entry: nearness is the Bregman divergence of the potential $F$.

    ``"square"``, $F = \tau^2/2$: plain descent, ``Keep``. ``"entropy"``, $F = \tau \ln \tau - \tau$: $W_t = W_{t-1} \odot e^{\Delta_t}$, positive weights.
    ``"sigmoid"``, $F' = \ln(\tau / (1 - \tau))$: $W_t = \sigma(\mathrm{logit}\,W_{t-1} + \Delta_t)$, weights between 0 and 1. The accumulator holds
    $F'(W)$, and initial weights are taken as such. Vectors of a memory, such as gains, are kept as they are. Source: MIRAS section 5.2, variant 5 (with $W_{t-1}$ for the printed $W_t$ in the logit, and $F'$ in the
    divergence).

    Args:
        potential: $F$.

    Raises:
        ValueError: There is no such potential.

    Examples:
        >>> Bregman(potential="sigmoid").expose({"w": torch.zeros(1, 1, 2)}, lead=1)
        {'w': tensor([[[0.5000, 0.5000]]])}
    """

    potential: Literal["square", "entropy", "sigmoid"] = "sigmoid"

    def __post_init__(self) -> None:
        if self.potential not in ("square", "entropy", "sigmoid"):
            raise ValueError(f"Bregman.potential must be 'square', 'entropy' or 'sigmoid', got {self.potential!r}.")

    @property
    def linear(self) -> bool:
        return True

    def keep(self, accumulator: Params, step: Step) -> Params:
        return accumulator

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        if self.potential == "square":
            return accumulator
        return each_matrix(torch.exp if self.potential == "entropy" else torch.sigmoid, lead, accumulator)
