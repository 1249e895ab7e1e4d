"""Scalar decay: weight decay as forgetting."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from retain.core.contracts import AbstractRetention, AbstractScalarRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each, stretch


@dataclass(frozen=True, kw_only=True)
class Decay(AbstractScalarRetention):
    r"""$A_t = (1 - \alpha_t) A_{t-1} + \Delta_t$, with one $\alpha_t$ a head.

    Symbols: the gate is given as ``retain`` $= 1 - \alpha_t$, MIRAS' $\alpha_t$. Source: Titans equations 13 and 14; MIRAS equations 8 and 9.

    Args:
        grad_at: Where the surprise is measured: at the memory before it decays, as Titans does (a token that erases everything is still judged by what
            was known), or after, as Gated DeltaNet does. The two differ by $\alpha\theta M k k^\top$ (Titans equation 34, corrected).

    Raises:
        ValueError: From the rule, if ``grad_at="decayed"`` and ``update_every`` is not 1.

    Examples:
        >>> import torch
        >>> Decay().keep({"w": torch.ones(1, 1, 2)}, Step(retain=torch.tensor([[0.5]])))
        {'w': tensor([[[0.5000, 0.5000]]])}
    """

    grad_at: Literal["previous", "decayed"] = "previous"

    @property
    def gate(self) -> Literal["none", "head", "channel"]:
        return "head"

    def keep(self, accumulator: Params, step: Step) -> Params:
        return decayed(self, accumulator, step)

    def ratio(self, retain: Tensor | None, like: Tensor) -> Tensor:
        return given(retain, self).expand_as(like)


def decayed(retention: AbstractRetention, accumulator: Params, step: Step) -> Params:
    """The accumulator multiplied by the gate, one number a head, which must be there."""
    retain = given(step.retain, retention)
    return each(lambda a: stretch(retain, a) * a, accumulator)


def given(retain: Tensor | None, retention: AbstractRetention) -> Tensor:
    """The gate, which must be there."""
    if retain is None:
        raise ValueError(
            f"{type(retention).__name__} needs a `retain` gate with each token, got None. Use retention.Keep() for a memory that keeps all."
        )
    return retain
