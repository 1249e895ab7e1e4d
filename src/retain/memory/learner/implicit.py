"""Implicit steps: where the gradient is taken is where the step comes to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from retain.core.contracts import (
    AbstractAffineBias,
    AbstractBias,
    AbstractChannelRetention,
    AbstractLearner,
    AbstractMatrix,
    AbstractPlainLearner,
    AbstractScalarRetention,
)
from retain.core.rule import MemoryRule

from .gradient import Gradient


@dataclass(frozen=True, kw_only=True)
class Implicit(AbstractPlainLearner):
    r"""$W_t = W_{t-1} - \theta_t \nabla \ell(W_t; k_t, v_t)$, with the gradient at the new memory: a step that no rate makes overshoot.

    For a matrix memory and a squared error it is the explicit step with the rate $\theta_t / (1 + s\,\theta_t \lVert k_t \rVert^2)$, and the minimiser of
    $\lVert W - W_{t-1} \rVert_F^2 + \theta_t s \lVert k_t W - v_t \rVert^2$. Symbols: $s$ the slope of the bias, 1 for half the squared error. Where the
    memory forgets, $W_{t-1}$ is what is kept of it. Source: Longhorn; Titans equation 35.

    Raises:
        ValueError: From a rule that has another memory or bias, or whose gradients are not those of one association at the newest memory.

    Examples:
        >>> import torch
        >>> from retain.memory.bias import L2
        >>> Implicit().effective(torch.tensor([1.0]), torch.ones(1, 3), L2())
        tensor([0.2500])
    """

    @property
    def single(self) -> AbstractLearner:
        return Gradient()  # at the rates that its steps come to

    def why_not(self, rule: MemoryRule) -> str | None:
        if not isinstance(rule.structure, AbstractMatrix) or not isinstance(rule.bias.single, AbstractAffineBias):
            return (
                "learner.Implicit solves for the new memory where it is one matrix and the bias' gradient is affine; got "
                f"{type(rule.structure).__name__} and {type(rule.bias.single).__name__}. Use learner.Gradient()."
            )
        if rule.update_every != 1:
            return f"learner.Implicit needs update_every=1, got {rule.update_every}: what it solves for is the newest memory."
        linear = isinstance(rule.retention, (AbstractScalarRetention, AbstractChannelRetention))
        if not linear or (rule.retention.gate != "none" and rule.retention.grad_at != "decayed"):
            return (
                "learner.Implicit steps from what is kept, so it needs a retention gate that multiplies, with grad_at='decayed' if it forgets; got "
                f"{type(rule.retention).__name__} with grad_at={rule.retention.grad_at!r}."
            )
        return None

    def effective(self, lr: Tensor, k: Tensor, bias: AbstractBias) -> Tensor:
        if lr.shape[-1] != 1:
            raise ValueError(
                f"learner.Implicit solves for one association at a time, got {lr.shape[-1]}. Use learner.InTurn(inner=learner.Implicit())."
            )
        assert isinstance(bias.single, AbstractAffineBias)
        return lr / (1 + bias.single.slope * lr * k.square().sum(-1))
