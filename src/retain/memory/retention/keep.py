"""No retention gate: nothing is ever let go on purpose."""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractScalarRetention
from retain.core.shapes import Params
from retain.core.tokens import Step


@dataclass(frozen=True, kw_only=True)
class Keep(AbstractScalarRetention):
    r"""$A_t = A_{t-1} + \Delta_t$. Source: MIRAS equation 5, Titans equation 8.

    Examples:
        >>> Keep().keep({"w": torch.ones(1)}, Step())
        {'w': tensor([1.])}
    """

    def keep(self, accumulator: Params, step: Step) -> Params:
        return accumulator

    def ratio(self, retain: Tensor | None, like: Tensor) -> Tensor:
        return torch.ones_like(like)
