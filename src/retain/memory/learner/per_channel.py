"""A learning rate of its own for each channel of a head."""

from __future__ import annotations

from dataclasses import dataclass

from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import by_channel

from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class PerChannel(AbstractWrapper):
    r"""$u_t \leftarrow \mathrm{Diag}(c_t)\, u_t$ for each weight of the memory, then as the inner learner does.

    The gate lies on the axis of a weight that is as wide as a head, as with ``retention.ChannelDecay``: the keys' (rows, in our row convention) where
    both are. With ``step_every=1`` and plain gradient steps each channel has a rate of its own, the papers' $\eta_t = \theta_t c_t \in \mathbb{R}^d$.

    Symbols: the gate ``channels`` holds $c$, ``lr`` is $\theta$. Source: MIRAS section 5.4, whose axis is not stated; Titans equation 33.

    Args:
        inner: The learner inside.
        most: The largest gate, positive. At 2 a gate that is learnt begins at one.

    Raises:
        ValueError: ``most`` is not positive; from a step, if the gate is missing or a weight has no axis as wide.

    Examples:
        >>> import torch
        >>> from retain.memory.learner import Gradient
        >>> step = Step(channels=torch.tensor([[1.0, 0.5]]))
        >>> PerChannel(inner=Gradient()).expose((), {"w": torch.ones(1, 2, 1)}, step)
        {'w': tensor([[[-1.0000],
                 [-0.5000]]])}
    """

    most: float = 2.0

    def __post_init__(self) -> None:
        if self.most <= 0:
            raise ValueError(f"learner.PerChannel.most must be positive, got {self.most}: at zero nothing is ever learnt.")

    @property
    def channel_max(self) -> float:
        return self.most

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return self.inner.accumulate(moments, _scaled(update, step), step)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return self.inner.expose(moments, _scaled(update, step), step)


def _scaled(update: Params, step: Step) -> Params:
    if step.channels is None:
        raise ValueError("learner.PerChannel needs a `channels` gate with each token, got None. Leave PerChannel out to learn at one rate a head.")
    return by_channel(step.channels, update, "learner.PerChannel", "the learner inside by itself")
