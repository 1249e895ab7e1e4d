"""Dot-product attentional bias: the Hebbian rule."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractAffineBias


@dataclass(frozen=True, kw_only=True)
class Dot(AbstractAffineBias):
    r"""$\ell(y, v) = -\langle y, v \rangle$, whose gradient step adds $v k^\top$ whatever the memory holds already.

    Source: Titans equations 4 and 5; MIRAS equation 8 (which carries a factor 2 into the rate).

    Examples:
        >>> import torch
        >>> Dot().loss(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]))
        tensor(-4.)
    """

    @property
    def slope(self) -> float:
        return 0.0

    @property
    def pull(self) -> float:
        return 1.0

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return -(y * v).sum(-1)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        return -v
