"""The way back: the memory is asked to find the key by the value."""

from __future__ import annotations

from dataclasses import dataclass

from retain.core.contracts import AbstractMatrix
from retain.core.rule import MemoryRule

from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class Transposed(AbstractWrapper):
    r"""$\ell_t(M) = \ell(M^\top v_t;\, k_t)$: what is held is the key, given the value, by the transpose of a memory that is read as ever, $y_t = M q_t$.

    With half the squared error this is, but for a number that does not depend on the memory, $-\langle M k_t, v_t \rangle + \frac12 \lVert M^\top v_t \rVert^2$,
    and a step of gradient descent is Oja's rule, $M_t = M_{t-1} + \theta_t v_t (k_t - M_{t-1}^\top v_t)^\top$: Hebb's, which writes only what of the key is not
    known of the value yet. ``loss`` compares keys. Source: Nested Learning equations 66 and 67, corrected.

    Args:
        inner: $\ell$, of one token.

    Raises:
        ValueError: ``inner`` has a window, or a threshold for each channel of a value; from a rule whose memory is no matrix, or whose learner solves for
            a matrix that is asked the other way.

    Examples:
        >>> Transposed().transposed, Transposed().single
        (True, L2(scale=0.5))
    """

    def __post_init__(self) -> None:
        name = type(self.inner).__name__
        if self.inner.window > 1:
            raise ValueError(
                f"Transposed(inner=) is the bias of one token, got {name} with a window of {self.inner.window}. Put Transposed into Omega."
            )
        if self.inner.transposed:
            raise ValueError("Transposed(inner=) is turned around already; the bias inside by itself asks for the value.")
        if self.inner.gate == "channel":
            raise ValueError(f"Transposed compares keys, and the thresholds of {name} are those of the channels of a value. Use one by token.")

    @property
    def transposed(self) -> bool:
        return True

    def why_not(self, rule: MemoryRule) -> str | None:
        if isinstance(rule.structure, AbstractMatrix):
            return None
        return f"bias.Transposed needs a memory that is one matrix, got {type(rule.structure).__name__}. Use structure.Matrix()."
