"""A preconditioner that learns what gradients are like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .feature_map_momentum import check_maps
from .matrices import as_matrix
from .optimizer import AbstractOptimizer, State, check_choice
from .orthogonal import NewtonSchulz, direction

Structure = Literal["diagonal", "matrix"]


class LearnedPreconditioner(AbstractOptimizer):
    r"""$W_{t+1} = W_t - \eta\,P_{t+1}^{-1} g_{t+1}$ with $P_{t+1} = P_t - \zeta\,\nabla_P \frac12 \lVert P_t(\hat g_{t+1}) - g_{t+1} \rVert^2$ from $P_0 = I$.

    $P$ learns the map from coordinates $\hat g$ in which a step should be taken to gradients $g$, and its inverse takes gradients there. A ``"diagonal"`` one
    learns from signs and becomes the decayed average of $\lvert g \rvert$; a ``"matrix"`` [rows, rows], for weights of two axes or more, learns from the
    orthogonal matrix nearest to $G$, and becomes the decayed average of $(G G^\top)^{1/2}$ where $G$ has no more rows than columns. Vectors have diagonals.
    Source: Nested Learning equations 38 to 41.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        rate: $\zeta$.
        structure: What $P$ is.
        coordinates: Another map from $g$ to $\hat g$, which keeps its shape. Each leading index of what it is given must be a weight of its own where ``lead`` is
            not zero.
        eps: Added to the diagonal of $P$ when it is inverted.

    Raises:
        ValueError: A number is negative, or a choice is unknown.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([4.0, -0.01])
        >>> LearnedPreconditioner([weight], lr=0.5, rate=1.0).step()
        >>> weight.data
        tensor([-0.5000,  0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        rate: float = 0.1,
        structure: Structure = "diagonal",
        coordinates: Callable[[Tensor], Tensor] | None = None,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, rate=rate, structure=structure, coordinates=coordinates, eps=eps)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_choice(f"{cls.__name__}.structure", options["structure"], Structure)
        check_maps(cls.__name__, options, "coordinates")
        if not options["rate"] >= 0:
            raise ValueError(f"{cls.__name__}.rate must be at least 0, got {options['rate']!r}.")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        if options["structure"] == "diagonal" or weight.ndim < lead + 2:
            return {"preconditioner": torch.ones_like(weight)}
        rows = weight.shape[lead]
        identity = torch.eye(rows, dtype=weight.dtype, device=weight.device)
        return {"preconditioner": identity.expand(*weight.shape[:lead], rows, rows).clone()}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        p, rate, coordinates = state["preconditioner"], options["rate"], options["coordinates"]
        if options["structure"] == "diagonal" or weight.ndim < lead + 2:
            target = coordinates(gradient) if coordinates else gradient.sign()
            p = p - rate * (p * target - gradient) * target
            found = gradient / (p + options["eps"])
        else:
            target = coordinates(gradient) if coordinates else direction(gradient, NewtonSchulz("cubic"), "none", lead)
            g, target = as_matrix(gradient, lead), as_matrix(target, lead)
            p = p - rate * (p @ target - g) @ target.mT
            exact = torch.promote_types(p.dtype, torch.float32)
            identity = torch.eye(p.shape[-1], dtype=exact, device=p.device)
            found = torch.linalg.solve(p.to(exact) + options["eps"] * identity, g.to(exact)).to(p.dtype).reshape(weight.shape)
        return weight - options["lr"] * found, {"preconditioner": p}
