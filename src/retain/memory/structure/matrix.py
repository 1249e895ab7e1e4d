"""A memory that is one matrix: linear attention, DeltaNet and their kin."""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractMatrix, AbstractReader


@dataclass(frozen=True, kw_only=True)
class Matrix(AbstractMatrix):
    r"""$M(x) = x W$ with $W \in \mathbb{R}^{d_k \times d_v}$.

    Symbols: ours acts on rows; the papers' $M \in \mathbb{R}^{d_v \times d_k}$ is $W^\top$. It begins at zero, so that what it holds is what it was
    told. Source: Titans equations 4, 5 and 32; MIRAS Table 1.

    Examples:
        >>> from retain.core.reader import Plain
        >>> weights = Matrix().init(heads=1, key_dim=2, value_dim=3)
        >>> Matrix().read(Plain(weights), torch.ones(1, 5, 2)).shape
        torch.Size([1, 5, 3])
    """

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return {self.weight: torch.zeros(heads, key_dim, value_dim)}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        return weights.linear(self.weight, x)

    def rate_bound(self, key_dim: int) -> float:
        return 1.0  # one step of this rate on a key of length one overwrites exactly
