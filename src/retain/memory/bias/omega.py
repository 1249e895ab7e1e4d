"""The Omega rule: each step is asked to hold a window of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class Omega(AbstractWrapper):
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

    window: int = 4  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"Omega.window counts tokens and must be at least 1, got {self.window}.")
        if self.inner.window > 1:
            raise ValueError(f"Omega(inner=) is the bias of one token, got {type(self.inner).__name__} with a window of {self.inner.window}.")
