"""A link, and what it forgets channel by channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from retain.core.contracts import AbstractBoundaryRetention, AbstractRetention, AbstractScalarRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import by_channel

from .decay import given
from .lq import Lq


@dataclass(frozen=True, kw_only=True)
class PerChannel(AbstractRetention):
    r"""As the gate inside, but with a number for each channel of a head: $A_t = \mathrm{Diag}(\alpha_t) A_{t-1} + \Delta_t$, exposed as there.

    The gate lies on the axis of a weight that is as wide as a head, as with ``ChannelDecay``. Where several accumulators expose the same weights, as
    logarithms of shares do whatever is added to all of them, a step starts from the one that the weights say: with ``KL`` inside it is
    $W_t = c\,\mathrm{softmax}(\alpha_t \odot \log W_{t-1} + \Delta_t)$. For one number a head that makes no difference; here it does.

    Symbols: ``retain`` is $\alpha_t$. Source: MIRAS section 5.4, whose axis is not stated.

    Args:
        inner: A gate with one number a head and a link of its own: ``Lq`` or ``KL``.

    Raises:
        ValueError: From the rule, if the gate inside is another one; from a step, if a weight has no axis as wide as the gate.

    Examples:
        >>> import torch
        >>> PerChannel().keep({"w": torch.ones(1, 2, 1)}, Step(retain=torch.tensor([[1.0, 0.5]])))
        {'w': tensor([[[1.0000],
                 [0.5000]]])}
    """

    inner: AbstractRetention = field(default_factory=Lq)

    def why_not(self, update_every: int | None) -> str | None:
        kind = type(self.inner).__name__
        if isinstance(self.inner, AbstractScalarRetention):
            return f"{kind} exposes what it keeps as it is; with a number for each channel that is retention.ChannelDecay(), without PerChannel."
        if isinstance(self.inner, AbstractBoundaryRetention):
            return f"retention.PerChannel applies the link of its gate at every token, got {kind}. Give it the gate inside {kind}."
        if not self.inner.linear or self.inner.gate != "head" or self.inner.grad_at != "previous":
            return (
                "retention.PerChannel needs a gate that multiplies its accumulator by one number a head and adds to it, such as Lq() or KL(); got "
                f"{kind}. Use it as it is."
            )
        return self.inner.why_not(update_every)

    @property
    def gate(self) -> Literal["none", "head", "channel", "outer"]:
        return "channel"

    def start(self, params: Params, lead: int = 2) -> Params:
        return self.inner.canonical(self.inner.start(params, lead), lead)

    def keep(self, accumulator: Params, step: Step) -> Params:
        return by_channel(given(step.retain, self), accumulator, "retention.PerChannel", "the gate inside by itself")

    def moved(self, accumulator: Params, delta: Params, step: Step, lead: int = 2) -> Params:
        return self.inner.canonical(super().moved(accumulator, delta, step, lead), lead)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        return self.inner.expose(accumulator, lead)
