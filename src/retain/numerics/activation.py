"""Non-linearities by name, and one that is cheap to differentiate twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["gelu", "silu", "relu", "tanh"]


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """torch's function of that name.

    Raises:
        ValueError: There is none.

    Examples:
        >>> activation("relu")(torch.tensor([-1.0, 1.0]))
        tensor([0., 1.])
    """
    if name not in get_args(Activation):
        raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {name!r}.")
    return getattr(F, name)


def twice_differentiable(name: str) -> Callable[[Tensor], Tensor]:
    """The same function, for use where its gradient is wanted, or the gradient of that: for GELU torch's own takes six times as long."""
    return _Gelu.apply if name == "gelu" else getattr(F, name)


def pulled_back(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """How a gradient at the function's output becomes one at its input: $(g, z) \\mapsto g \\odot \\sigma'(z)$, itself to be differentiated.

    Examples:
        >>> pulled_back("relu")(torch.ones(2), torch.tensor([-1.0, 1.0]))
        tensor([0., 1.])
    """
    return _PULLED_BACK[name]


# Below this many numbers torch's GELU for the CPU spends its time on waking threads, ten times as long as the arithmetic takes.
_FEW = 2**13


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return F.gelu(z) if z.numel() > _FEW else _normal_share(z).mul_(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _GeluSlope.apply(grads[0], ctx.saved_tensors[0])


def _normal_share(z: Tensor) -> Tensor:
    """The share of a normal distribution that lies below ``z``."""
    return torch.erf(z * math.sqrt(0.5)).mul_(0.5).add_(0.5)


class _GeluSlope(torch.autograd.Function):
    """``grad * gelu'(z)``."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(grad, z)
        if z.numel() > _FEW:
            return torch.ops.aten.gelu_backward(grad, z)
        return torch.exp(z * z * -0.5).mul_(z / math.sqrt(2 * math.pi)).add_(_normal_share(z)).mul_(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        grad, z = ctx.saved_tensors
        squares, unit = z * z, 1 / math.sqrt(2 * math.pi)
        bend = torch.exp(squares * -0.5) * (2 * unit - unit * squares)  # gelu''(z) = phi(z) (2 - z^2)
        return _GeluSlope.apply(grads[0], z), grads[0] * grad * bend


def _silu_slope(grad: Tensor, z: Tensor) -> Tensor:
    share = torch.sigmoid(z)
    return grad * share * (1 + z * (1 - share))


_PULLED_BACK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": _GeluSlope.apply,
    "silu": _silu_slope,
    "relu": lambda grad, z: grad * (z > 0),
    "tanh": lambda grad, z: grad * (1 - torch.tanh(z).square()),
}
