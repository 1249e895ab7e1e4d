"""Decay with a rate of its own for each channel of a head."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from retain.core.contracts import AbstractChannelRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import by_channel

from .decay import given


@dataclass(frozen=True, kw_only=True)
class ChannelDecay(AbstractChannelRetention):
    r"""$A_t = \mathrm{Diag}(1 - \alpha_t) A_{t-1} + \Delta_t$, with $\alpha_t$ a vector over the channels of a head.

    The gate lies on the axis of a weight that is as wide as a head: the keys' (rows, in our row convention) where both are. Source: GLA and RWKV-7 in
    MIRAS Table 1 (there $M\,\mathrm{Diag}(a_t)$); for deep memories MIRAS section 5.4, whose axis is not stated.

    Args:
        grad_at: As for ``Decay``.

    Raises:
        ValueError: From the rule, if ``grad_at="decayed"`` and ``update_every`` is not 1; from a step, if a weight has no axis as wide as the gate.

    Examples:
        >>> import torch
        >>> ChannelDecay().keep({"w": torch.ones(1, 2, 1)}, Step(retain=torch.tensor([[1.0, 0.5]])))
        {'w': tensor([[[1.0000],
                 [0.5000]]])}
    """

    grad_at: Literal["previous", "decayed"] = "previous"

    @property
    def gate(self) -> Literal["none", "head", "channel"]:
        return "channel"

    def keep(self, accumulator: Params, step: Step) -> Params:
        return by_channel(given(step.retain, self), accumulator, "retention.ChannelDecay", "retention.Decay()")

    def ratio(self, retain: Tensor | None) -> Tensor:
        return given(retain, self)
