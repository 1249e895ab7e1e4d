"""Gradient descent without memory of its own."""

from dataclasses import dataclass

from retain.core.contracts import AbstractPlainLearner


@dataclass(frozen=True, kw_only=True)
class Gradient(AbstractPlainLearner):
    r"""$\Delta_t = -u_t$: momentary surprise only. Source: Titans equation 8, MIRAS equation 5.

    Examples:
        >>> import torch
        >>> from retain.core.tokens import Step
        >>> Gradient().expose((), {"w": torch.ones(1)}, Step())
        {'w': tensor([-1.])}
    """
