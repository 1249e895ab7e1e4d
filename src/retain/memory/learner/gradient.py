"""Gradient descent without memory of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractPlainLearner, Response
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each


@dataclass(frozen=True, kw_only=True)
class Gradient(AbstractPlainLearner):
    r"""$\Delta_t = -u_t$: momentary surprise only. Source: Titans equation 8, MIRAS equation 5.

    Examples:
        >>> Gradient().expose((), {"w": torch.ones(1)}, Step())
        {'w': tensor([-1.])}
    """

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return ()

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return each(torch.neg, update)

    def response(self, steps: Step, active: Tensor) -> Response:
        n, lead = active.shape[-1], active.shape[:-1]
        return Response(-torch.diag_embed(active), active.new_zeros(*lead, n, 0), active.new_zeros(*lead, 0, n), active.new_zeros(*lead, 0, 0))
