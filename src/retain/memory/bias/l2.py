"""Squared-error attentional bias: hold the value itself."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from retain.core.contracts import AbstractAffineBias


@dataclass(frozen=True, kw_only=True)
class L2(AbstractAffineBias):
    r"""$\ell(y, v) = s \lVert y - v \rVert_2^2$.

    Symbols: ``scale`` is $s$; 1/2 gives the delta rule as it is usually written, 1 is Titans equation 12, $1/d$ the mean over a head. Source: Titans
    equations 12 and 17; MIRAS equation 9.

    Args:
        scale: $s$, positive.

    Raises:
        ValueError: ``scale`` is not positive.

    Examples:
        >>> import torch
        >>> L2(scale=0.5).loss(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(2.)
    """

    scale: float = 0.5

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"L2.scale must be positive, got {self.scale}: a memory that climbs its error holds nothing.")

    @property
    def slope(self) -> float:
        return 2 * self.scale

    @property
    def pull(self) -> float:
        return 2 * self.scale

    def loss(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens"]:
        return self.scale * (y - v).square().sum(-1)

    def grad(self, y: Float[Tensor, "*tokens value"], v: Float[Tensor, "*tokens value"]) -> Float[Tensor, "*tokens value"]:
        e = y - v
        return e if self.scale == 0.5 else 2 * self.scale * e
