"""Steps whose matrices are orthogonal: Muon inside a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import stretch
from retain.numerics import newton_schulz

from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class Orthogonal(AbstractWrapper):
    r"""$\Delta_t = \bar\theta_t\,\mathrm{NS}(\Delta^{\text{inner}}_t)$ for each matrix of the memory; vectors move by $\bar\theta_t\,\Delta^{\text{inner}}_t$.

    Newton-Schulz forgets the size of what it is given, so a rate within it would be lost: by default gradients go in as they are, and the step's mean
    rate $\bar\theta_t$ multiplies what comes out. A step whose rates are all zero then moves nothing. Source: Muon; ATLAS; Nested Learning section 4.

    Args:
        inner: The learner inside.
        steps: Newton-Schulz iterations.
        kind: ``"quintic"``, fast and rough, or ``"cubic"``, which comes to an orthogonal matrix in the end; see ``retain.numerics.newton_schulz``.
        rate: ``"after"``, or ``"before"`` as in titans-pytorch, whose rates only weigh the tokens of a step, and earlier steps, against each other.

    Raises:
        ValueError: ``steps`` is below 1, or ``kind`` or ``rate`` is unknown.

    Examples:
        >>> import torch
        >>> from retain.memory.learner import Gradient
        >>> step = Orthogonal(inner=Gradient()).expose((), {"w": torch.eye(2)}, Step(lr=torch.tensor(0.5)))
        >>> bool((step["w"].diagonal() < -0.3).all())
        True
    """

    steps: int = 5
    kind: Literal["quintic", "cubic"] = "quintic"
    rate: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Orthogonal.steps must be at least 1, got {self.steps}.")
        if self.kind not in ("quintic", "cubic"):
            raise ValueError(f"Orthogonal.kind must be 'quintic' or 'cubic', got {self.kind!r}.")
        if self.rate not in ("after", "before"):
            raise ValueError(f"Orthogonal.rate must be 'after' or 'before', got {self.rate!r}.")

    @property
    def rates(self) -> Literal["before", "after"]:
        return self.rate

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        moved = self.inner.expose(moments, update, step)
        if step.lr is None:
            raise ValueError("Orthogonal needs the step's mean rate, Step.lr, got None.")
        turned = {name: newton_schulz(d, self.steps, self.kind) if d.ndim - step.lr.ndim == 2 else d for name, d in moved.items()}
        if self.rate == "before":
            return turned
        return {name: stretch(step.lr, d) * d for name, d in turned.items()}
