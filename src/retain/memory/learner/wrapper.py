"""A learner around another one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from retain.core.contracts import AbstractBias, AbstractLearner
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.tokens import Step

from .momentum import Momentum


@dataclass(frozen=True, kw_only=True)
class AbstractWrapper(AbstractLearner):
    """Does as its inner learner does, but for what a subclass changes.

    Args:
        inner: The learner inside.
    """

    inner: AbstractLearner = field(default_factory=Momentum)

    @property
    def moments(self) -> int:
        return self.inner.moments

    @property
    def curved(self) -> bool:
        return self.inner.curved

    @property
    def in_turn(self) -> bool:
        return self.inner.in_turn

    @property
    def single(self) -> AbstractLearner:
        return replace(self, inner=self.inner.single)

    @property
    def mixed(self) -> int:
        return self.inner.mixed

    @property
    def scale_max(self) -> float:
        return self.inner.scale_max

    @property
    def channel_max(self) -> float:
        return self.inner.channel_max

    @property
    def rates(self) -> Literal["before", "after"]:
        return self.inner.rates

    def why_not(self, rule: MemoryRule) -> str | None:
        return self.inner.why_not(rule)

    def start(self, params: Params) -> tuple[Params, ...]:
        return self.inner.start(params)

    def effective(self, lr: Tensor, k: Tensor, bias: AbstractBias) -> Tensor:
        return self.inner.effective(lr, k, bias)

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return self.inner.accumulate(moments, update, step)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return self.inner.expose(moments, update, step)
