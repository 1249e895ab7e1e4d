"""Directions that are orthogonal matrices."""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from retain.numerics import newton_schulz

from .matrices import as_matrix, norm

Kind = Literal["quintic", "cubic"]
Precision = Literal["weight", "bfloat16"]
Scale = Literal["original", "match_rms_adamw", "norm", "none"]


class NewtonSchulz(NamedTuple):
    r"""How a momentum becomes an orthogonal matrix, and how long the step is then.

    The rows of a weight are its first axis, its columns all the others. The scale multiplies the orthogonal matrix $O$: ``"original"`` by
    $\sqrt{\max(1, \text{rows} / \text{columns})}$ and ``"match_rms_adamw"`` by $0.2 \sqrt{\max(\text{rows}, \text{columns})}$, both as in
    ``torch.optim.Muon``; ``"norm"`` by $\lVert m \rVert_F / \lVert O \rVert_F$, so that the step is as long as the momentum $m$ that it is made of; and
    ``"none"`` leaves it. Source: Nested Learning equations 42 to 44.

    Args:
        kind: The iteration. The quintic one is quick and leaves singular values between about 0.7 and 1.2, the cubic one brings them to 1.
        steps: Iterations; without a number 5 quintic or 15 cubic ones, both of which lift what is small some 450 times.
        scale: The length. Without one, what the optimizer that uses it says.
        precision: What the products are computed in: the weight's own type, or bfloat16 as in ``torch.optim.Muon``, which is faster where there is
            hardware for it, and exact to about 1 in 100.

    Examples:
        >>> NewtonSchulz("cubic").iterations
        15
    """

    kind: Kind = "quintic"
    steps: int | None = None
    scale: Scale | None = None
    precision: Precision = "weight"

    @property
    def iterations(self) -> int:
        return self.steps or {"quintic": 5, "cubic": 15}[self.kind]

    def check(self, owner: str) -> None:
        """Refuse what makes no sense, in the name of its owner.

        Raises:
            ValueError: The message names the field.
        """
        for name, known in (("kind", Kind), ("scale", Scale | None), ("precision", Precision)):
            choices = [choice for part in get_args(known) for choice in (get_args(part) or (part,))]
            if getattr(self, name) not in choices and not (name == "scale" and self.scale is None):
                raise ValueError(f"{owner}.{name} must be one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}.")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"{owner}.steps must be at least 1, got {self.steps}; None is the usual number.")


def check_orthogonal(owner: str, how: object) -> None:
    """Refuse a way to an orthogonal matrix that is none.

    Raises:
        ValueError: The message says what was got.
    """
    if how is None:
        return
    if not isinstance(how, NewtonSchulz):
        raise ValueError(f"{owner} must be a NewtonSchulz(kind, steps, scale, precision) or None, got {how!r}.")
    how.check(owner)


def direction(x: Tensor, how: NewtonSchulz | None, usual: Scale, lead: int) -> Tensor:
    """Each matrix of ``x`` made orthogonal, at the scale that is asked for, or else the usual one. Vectors stay as they are."""
    if how is None or x.ndim < lead + 2:
        return x
    matrix = as_matrix(x, lead)
    found = newton_schulz(matrix.bfloat16() if how.precision == "bfloat16" else matrix, how.iterations, how.kind).to(x.dtype).reshape(x.shape)
    rows, columns = matrix.shape[-2:]
    match how.scale or usual:
        case "original":
            return sqrt(max(1.0, rows / columns)) * found
        case "match_rms_adamw":
            return 0.2 * sqrt(max(rows, columns)) * found
        case "norm":
            length = norm(found, lead)
            return norm(x, lead) / torch.where(length > 0, length, 1.0) * found
        case "none":
            return found
