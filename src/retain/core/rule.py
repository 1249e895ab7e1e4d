"""A memory rule: what a memory means, whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from .both_ways import BothWays
from .contracts import (
    AbstractBias,
    AbstractChannelRetention,
    AbstractLearner,
    AbstractMatrix,
    AbstractRetention,
    AbstractScalarRetention,
    AbstractStructure,
)
from .shapes import Params
from .tokens import Step
from .trees import each, stretch


@dataclass(frozen=True, kw_only=True)
class Anchor:
    r"""The point $W^*$ where gradients are taken: how it moves, and what is added to it.

    Args:
        transition: What becomes of the memory at a boundary: ``"full"`` goes on with the newest weights $W$, ``"gated"`` with $W^* + g\,(W - W^*)$, where $g$
            is a gate and $W^*$ the anchor so far. The token at the boundary reads what comes of it. Source of the latter: titans-pytorch.
        residual: What is added to the anchor where gradients are taken: ``"none"``, or ``"weights"``, $g$ times the weights of another memory, where $g$
            is a gate of the step. A token's surprise is that at the anchor itself. Source of the latter: titans-pytorch.

    Raises:
        ValueError: There is no such transition or residual.

    Examples:
        >>> Anchor(transition="gated").residual
        'none'
    """

    transition: Literal["full", "gated"] = "full"
    residual: Literal["none", "weights"] = "none"

    def __post_init__(self) -> None:
        if self.transition not in ("full", "gated"):
            raise ValueError(f"transition must be 'full' or 'gated', got {self.transition!r}.")
        if self.residual not in ("none", "weights"):
            raise ValueError(f"residual must be 'none' or 'weights', got {self.residual!r}.")


@dataclass(frozen=True, kw_only=True)
class MemoryRule:
    r"""The four choices of a memory, and its clocks.

    $u_t = \sum_{i \in \text{step}} \theta_i \nabla_W \ell(M(W^*, k_i), v_i)$ at the anchor $W^*$, the weights exposed at the last boundary;
    $S_t = \mathrm{accumulate}(S_{t-1}, u_t)$; $A_t = \mathrm{keep}(A_{t-1}) + \mathrm{expose}(S_t)$; $W_t = \mathrm{expose}(A_t)$; $y_t = M(W_t, q_t)$.
    Boundaries are counted from the start of the stream, so any split of a stream into calls gives one answer.

    Symbols: ``update_every`` is the papers' chunk $b$, ``step_every`` the tokens that share one inner step. Source: MIRAS section 3 (the four
    choices), Titans equations 13-16.

    Args:
        structure: What the memory is.
        bias: What it is asked to hold.
        retention: What it lets go.
        learner: How it moves.
        update_every: Tokens between two boundaries, at which the point where gradients are taken moves to the newest weights; None never moves it.
        step_every: Tokens that make one inner step; divides ``update_every``.
        reads: Whether a token reads the memory after or before its own step.
        anchor: How $W^*$ moves at a boundary, and what else has a part in the point where gradients are taken.

    Raises:
        ValueError: A clock is not positive, or the clocks do not fit each other, the retention or the anchor.

    Examples:
        >>> from retain import MemoryRule, bias, learner, retention, structure
        >>> rule = MemoryRule(structure=structure.Matrix(), bias=bias.L2(), retention=retention.Keep(), learner=learner.Gradient(), update_every=1)
        >>> rule.reads
        'after'
    """

    structure: AbstractStructure
    bias: AbstractBias
    retention: AbstractRetention
    learner: AbstractLearner
    update_every: int | None = 64
    step_every: int = 1
    reads: Literal["after", "before"] = "after"
    anchor: Anchor = Anchor()

    def __post_init__(self) -> None:
        if self.step_every < 1:
            raise ValueError(f"step_every counts tokens and must be at least 1, got {self.step_every}.")
        if self.update_every is not None and self.update_every < 1:
            raise ValueError(f"update_every counts tokens and must be at least 1, got {self.update_every}. None anchors the gradients for ever.")
        if self.update_every is not None and self.update_every % self.step_every:
            raise ValueError(
                f"step_every must divide update_every, got {self.step_every} and {self.update_every}: a boundary in the middle of a step has no meaning."
            )
        if self.reads not in ("after", "before"):
            raise ValueError(f"reads must be 'after' or 'before', got {self.reads!r}.")
        if self.anchor.transition == "gated" and (
            self.update_every is None or not isinstance(self.retention, (AbstractScalarRetention, AbstractChannelRetention))
        ):
            raise ValueError(
                "Anchor(transition='gated') needs boundaries, and a retention that exposes what it keeps as it is; got "
                f"update_every={self.update_every} and {type(self.retention).__name__}."
            )
        refusal = self.retention.why_not(self.update_every) or self.bias.why_not(self) or self.learner.why_not(self)
        if refusal is not None:
            raise ValueError(refusal)
        _ = self.spread  # whose parts may refuse each other, too

    @property
    def spread(self) -> MemoryRule:
        """The rule that is left to an engine when each token is handed over with all that it writes, step by step."""
        if self.bias.single is self.bias and not self.learner.in_turn:
            return self
        structure = self.structure
        if self.bias.transposed:
            assert isinstance(structure, AbstractMatrix)
            structure = BothWays(inner=structure)
        return replace(self, structure=structure, bias=self.bias.single, learner=self.learner.single)

    def loss(self, y: Tensor, targets: Tensor) -> Tensor:
        """The bias' loss of answers [..., tokens, value] to ``Tokens.targets`` [..., tokens, value and what the threshold adds]."""
        bias, v = self._bias_of(targets, y.shape[-1])
        return bias.loss(y, v)

    def slope(self, y: Tensor, targets: Tensor) -> Tensor:
        """Its gradient at the answers."""
        bias, v = self._bias_of(targets, y.shape[-1])
        return bias.grad(y, v)

    def _bias_of(self, targets: Tensor, width: int) -> tuple[AbstractBias, Tensor]:
        if self.bias.gate == "none":
            return self.bias, targets
        wanted, got = 1 if self.bias.gate == "token" else width, targets.shape[-1] - width
        if got != wanted:
            many = "one number" if self.bias.gate == "token" else f"a number for each of {width} channels"
            raise ValueError(f"{type(self.bias).__name__} needs a `threshold` gate with each token, {many}, got {got or None}.")
        return self.bias.at(targets[..., width:]), targets[..., :width]

    def gradient_point(self, anchor: Params, step: Step, beside: Params | None) -> Params:
        """The weights at which the gradients of a step are taken, given those exposed at the last boundary and those of the other memory."""
        point = self.retention.gradient_point(anchor, step)
        if self.anchor.residual == "none":
            return point
        if beside is None or step.residual is None:
            raise ValueError("Anchor(residual='weights') needs the weights of another memory in the state and a `residual` gate with each token.")
        share = step.residual
        return each(lambda own, other: own + stretch(share, other) * other, point, beside)
