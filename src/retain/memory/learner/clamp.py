"""A bound on how large a step's gradient may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from retain.core.shapes import Params
from retain.core.tokens import Step

from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class Clamp(AbstractWrapper):
    r"""$u \leftarrow u \cdot c(\lVert u \rVert) / \lVert u \rVert$, weight by weight, before the inner learner sees it. A zero stays zero.

    ``"clip"`` is $c(n) = \min(n, m)$. ``"soft"`` is titans-pytorch's $c(n) = \frac m2 (1 + \tanh \frac{2n}m)$, which lies between $m/2$ and $m$: it
    makes small gradients as large as half the bound, and is here so that its checkpoints mean what they meant.

    Args:
        inner: The learner inside.
        norm: $m$, positive: the largest Frobenius norm of a weight's update, summed over the step's tokens.
        kind: The map.

    Raises:
        ValueError: ``norm`` is not positive, or ``kind`` is unknown.

    Examples:
        >>> from retain.memory.learner import Gradient
        >>> Clamp(inner=Gradient(), norm=1.0).expose((), {"w": torch.tensor([[3.0, 4.0]])}, Step(lr=torch.tensor(1.0)))
        {'w': tensor([[-0.6000, -0.8000]])}
    """

    norm: float = 1.0
    kind: Literal["clip", "soft"] = "clip"

    def __post_init__(self) -> None:
        if self.norm <= 0:
            raise ValueError(f"Clamp.norm must be positive, got {self.norm}.")
        if self.kind not in ("clip", "soft"):
            raise ValueError(f"Clamp.kind must be 'clip' or 'soft', got {self.kind!r}.")

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return self.inner.accumulate(moments, self._clamped(update, step), step)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return self.inner.expose(moments, self._clamped(update, step), step)

    def _clamped(self, update: Params, step: Step) -> Params:
        return {name: u * self._factor(norm_of(u, step), u.dtype) for name, u in update.items()}

    def _factor(self, norm: Tensor, dtype: torch.dtype) -> Tensor:
        safe = norm.clamp(min=torch.finfo(dtype).tiny)
        if self.kind == "clip":
            return (self.norm / safe).clamp(max=1.0)
        half = self.norm / 2
        return torch.where(norm > 0, (torch.tanh(norm / half) + 1) * half / safe, 0.0)


def norm_of(u: Tensor, step: Step) -> Tensor:
    """The Frobenius norm of each memory's tensor, with axes of length one in place of its own. Its gradient at zero is zero."""
    if step.lr is None:
        raise ValueError("a learner that is not linear needs the step's mean rate, Step.lr, whose axes are those of the memories; got None.")
    axes = tuple(range(step.lr.ndim, u.ndim))
    squares = u.square().sum(axes, keepdim=True)
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
