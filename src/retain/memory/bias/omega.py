"""The Omega rule: each step is asked to hold a window of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractBias
from retain.core.rule import MemoryRule

from .l2 import L2


@dataclass(frozen=True, kw_only=True)
class Omega(AbstractBias):
    r"""$\ell_t(W) = \sum_{i=t-c+1}^{t} \gamma^{(t)}_i\, \ell(W; k_i, v_i)$: what is to be held is the last $c$ tokens, not the last one.

    All gradients of a token's step are taken where its own is, so tokens of an earlier segment are weighed against the newer memory. Symbols: ``window``
    is $c$; the token's rate $\theta_t$ multiplies the sum; $\gamma^{(t)}_i \in [0, 1]$ is the ``window`` gate, itself first. At the start of a stream the
    window holds what there is. Source: ATLAS equations 8 and 9; a window of one token is the bias inside.

    Args:
        inner: The bias of each token.
        window: Tokens that each step sees.

    Raises:
        ValueError: The window is below 1, or ``inner`` has a window of its own.

    Examples:
        >>> Omega(window=4).single
        L2(scale=0.5)
    """

    inner: AbstractBias = field(default_factory=L2)
    window: int = 4  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"Omega.window counts tokens and must be at least 1, got {self.window}.")
        if self.inner.window > 1:
            raise ValueError(f"Omega(inner=) is the bias of one token, got {type(self.inner).__name__} with a window of {self.inner.window}.")

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
