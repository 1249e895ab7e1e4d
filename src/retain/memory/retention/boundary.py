"""Links that stand still between boundaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from retain.core.contracts import AbstractBoundaryRetention, AbstractRetention
from retain.core.shapes import Params
from retain.core.tokens import Step

from .decay import given
from .lq import Lq


@dataclass(frozen=True, kw_only=True)
class Boundary(AbstractBoundaryRetention):
    r"""As the gate inside, but its link is applied at boundaries alone: $W_{kb} = \mathrm{expose}(A_{kb})$, and $A_t = \alpha_t A_{t-1} + \Delta_t$ throughout.

    What tokens between two boundaries read the papers leave open. Ours: where the link is a number for each weight tensor, that of the last boundary
    times the accumulator, $W_t = A_t / \lVert A_{kb} \rVert_q^{q-2}$ for ``Lq(link="norm")``; else the memory as it stood at the last boundary. The token
    that completes a segment reads what comes of it, so with ``update_every=1`` nothing differs from the gate inside. Weights are then never written out
    for a token, and the fast engines run the rule. Source: MIRAS section 5.4 (chunk-wise training).

    Args:
        inner: A gate that multiplies its accumulator by one number and adds to it: ``Lq``, ``KL``, ``Bregman``, ``ElasticNet(view="leader")``.

    Raises:
        ValueError: From the rule, if the gate inside does something else, or if there are no boundaries.

    Examples:
        >>> Boundary(inner=Lq(q=4.0)).frozen({"w": torch.tensor([[[0.0, 2.0]]])}, lead=1)
        {'w': tensor([[[0.2500]]])}
    """

    inner: AbstractRetention = field(default_factory=Lq)

    def why_not(self, update_every: int | None) -> str | None:
        if not self.inner.linear or self.inner.grad_at != "previous":
            return (
                f"retention.Boundary needs a gate that multiplies its accumulator by one number and adds to it; {type(self.inner).__name__} does more. "
                "Use it as it is, with its link at every token."
            )
        if update_every is None:
            return "retention.Boundary applies its link at boundaries, so it needs some: give update_every a number of tokens."
        return self.inner.why_not(update_every)

    @property
    def gate(self) -> Literal["none", "head", "channel", "outer"]:
        return self.inner.gate

    @property
    def linear(self) -> bool:
        return self.inner.linear

    def ratio(self, retain: Tensor | None, like: Tensor) -> Tensor:
        return torch.ones_like(like) if self.gate == "none" else given(retain, self).expand_as(like)

    def frozen(self, anchor: Params, lead: int = 2) -> Params | None:
        return self.inner.frozen(anchor, lead)

    def start(self, params: Params, lead: int = 2) -> Params:
        return self.inner.start(params, lead)

    def keep(self, accumulator: Params, step: Step) -> Params:
        return self.inner.keep(accumulator, step)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        return self.inner.expose(accumulator, lead)
