"""A bias around another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractBias
from retain.core.rule import MemoryRule

from .l2 import L2


@dataclass(frozen=True, kw_only=True)
class AbstractWrapper(AbstractBias):
    """Asks as its inner bias does, but for what a subclass changes of what a token brings.

    Args:
        inner: The bias of one token.
    """

    inner: AbstractBias = field(default_factory=L2)

    @property
    def gate(self) -> Literal["none", "token", "channel"]:
        return self.inner.gate

    @property
    def single(self) -> AbstractBias:
        return self.inner.single

    @property
    def transposed(self) -> bool:
        return self.inner.transposed

    def why_not(self, rule: MemoryRule) -> str | None:
        return self.inner.why_not(rule)

    def at(self, threshold: Tensor) -> AbstractBias:
        return self.inner.at(threshold)

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return self.inner.loss(y, v)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        return self.inner.grad(y, v)
