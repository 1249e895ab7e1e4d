"""Exact least squares over all that was seen, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from retain.core.contracts import AbstractAffineBias, AbstractLearner, AbstractMatrix, AbstractScalarRetention
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each, stretch


@dataclass(frozen=True, kw_only=True)
class LeastSquares(AbstractLearner):
    r"""Newton's step: $\Delta_t = -(\lambda I + E_t)^{-1} u_t$ with the evidence $E_t = \eta_t E_{t-1} + \nabla^2 \ell_t$, $E_0 = 0$.

    With a matrix memory, a squared error of slope $s$ and nothing forgotten, $W_t$ is the minimiser of
    $s \sum_{i \le t} \theta_i \lVert k_i W - v_i \rVert^2 + \lambda \lVert W - W_0 \rVert_F^2$: recursive least squares, or Sherman and Morrison's
    formula, for a step of one token. Otherwise it is that of $s\,\theta_t \lVert k_t W - v_t \rVert^2$ plus the squared distance to $W_{t-1}$ in the
    metric $\lambda I + \eta_t E_{t-1}$. The one moment is $E$ [key, key]. Symbols: ``momentum`` is $\eta$, the share of the evidence that is kept;
    ``ridge`` $\lambda$. Source: ATLAS equation 14; MIRAS section 4 (the Mesa layer) and, in closed form, equation 4.

    Args:
        ridge: How strongly the memory is held to where it was; positive.

    Raises:
        ValueError: The ridge is not positive; from a rule with another memory or bias, with a gate that forgets, or with stale gradients.

    Examples:
        >>> LeastSquares(ridge=0.1).moments
        1
    """

    ridge: float = 1.0

    def __post_init__(self) -> None:
        if self.ridge <= 0:
            raise ValueError(f"LeastSquares.ridge must be positive, got {self.ridge}: a few keys alone do not determine a memory.")

    @property
    def moments(self) -> int:
        return 1

    @property
    def curved(self) -> bool:
        return True

    def why_not(self, rule: MemoryRule) -> str | None:
        if not isinstance(rule.structure, AbstractMatrix):
            return f"learner.LeastSquares needs a memory that is one matrix, got {type(rule.structure).__name__}. Use structure.Matrix()."
        if not isinstance(rule.bias.single, AbstractAffineBias) or rule.bias.single.slope <= 0:
            return f"learner.LeastSquares needs a squared error, got {type(rule.bias.single).__name__}. Use bias.L2()."
        held = isinstance(rule.retention, AbstractScalarRetention) and rule.retention.gate == "none"
        if not held or rule.update_every != rule.step_every:
            return (
                "learner.LeastSquares forgets by its own momentum gate and solves at each step for the newest memory: it needs retention.Keep() and "
                f"update_every equal to step_every, got {type(rule.retention).__name__}, {rule.update_every} and {rule.step_every}."
            )
        return None

    def start(self, params: Params) -> tuple[Params, ...]:
        return (each(lambda w: w.new_zeros(*w.shape[:-1], w.shape[-2]), params),)

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        if step.momentum is None or step.curvature is None:
            missing = "a `momentum` gate with 1 entries" if step.momentum is None else "the step's curvature"
            raise ValueError(f"LeastSquares needs {missing}, got none.")
        kept, curvature = step.momentum[..., 0], step.curvature
        return (each(lambda e: stretch(kept, e) * e + curvature, moments[0]),)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return each(lambda e, u: -torch.linalg.solve(e + self.ridge * torch.eye(e.shape[-1], dtype=e.dtype, device=e.device), u), moments[0], update)
