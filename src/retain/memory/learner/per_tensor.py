"""A learning rate of its own for each weight of the memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from retain.core.contracts import AbstractLinearLearner, Response
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import stretch

from .momentum import Momentum
from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class PerTensor(AbstractWrapper, AbstractLinearLearner):
    r"""$u^{(w)}_t \leftarrow m^{(w)}_t u^{(w)}_t$ for each weight $w$ of the memory, then as the inner learner does.

    Symbols: the gate ``scales`` holds $m$, in the alphabetical order of the weights. Source: titans-pytorch (``per_parameter_lr_modulation``).

    Args:
        inner: A linear learner. What is not linear goes around this one, not inside.
        most: The largest gate, positive.

    Raises:
        ValueError: ``inner`` is not linear, or ``most`` is not positive; from a step, if the gate is missing.

    Examples:
        >>> import torch
        >>> step = Step(momentum=torch.zeros(1, 1, 1), scales=torch.tensor([[[0.5]]]))
        >>> PerTensor().accumulate(({"w": torch.zeros(1, 1, 2)},), {"w": torch.ones(1, 1, 2)}, step)
        ({'w': tensor([[[-0.5000, -0.5000]]])},)
    """

    inner: AbstractLinearLearner = field(default_factory=Momentum)
    most: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.inner, AbstractLinearLearner):
            raise ValueError(f"PerTensor goes around a linear learner, got {type(self.inner).__name__}; put that one around PerTensor instead.")
        if self.most <= 0:
            raise ValueError(f"PerTensor.most must be positive, got {self.most}.")

    @property
    def scale_max(self) -> float:
        return self.most

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return self.inner.accumulate(moments, _scale(update, step), step)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return self.inner.expose(moments, _scale(update, step), step)

    def response(self, steps: Step, active: Tensor) -> Response:
        """That of the inner learner: who uses it multiplies the gradients by ``scales`` first."""
        return self.inner.response(steps, active)


def _scale(update: Params, step: Step) -> Params:
    if step.scales is None or step.scales.shape[-1] != len(update):
        got = "none" if step.scales is None else list(step.scales.shape)
        raise ValueError(f"PerTensor needs a `scales` gate with an entry for each of {', '.join(sorted(update))}, got {got}.")
    return {name: stretch(step.scales[..., i], u) * u for i, (name, u) in enumerate(sorted(update.items()))}
