"""A matrix memory that is asked both ways at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .contracts import AbstractMatrix, AbstractReader, AbstractStructure
from .reader import Plain


@dataclass(frozen=True, kw_only=True)
class BothWays(AbstractStructure):
    r"""$(v, q) \mapsto (v W^\top, q W)$: what a matrix says of a value, and of a query, side by side. See ``AbstractBias.transposed``.

    Args:
        inner: The matrix.

    Examples:
        >>> from retain.memory.structure import Matrix
        >>> read = BothWays(inner=Matrix()).read(Plain({"w": torch.tensor([[1.0, 2.0, 3.0]])}), torch.tensor([[1.0, 1.0, 1.0, 5.0]]))
        >>> read.tolist()  # of the value (1, 1, 1) and the query (5,)
        [[6.0, 5.0, 10.0, 15.0]]
    """

    inner: AbstractMatrix

    @property
    def factored(self) -> bool:
        return False

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return self.inner.init(heads, key_dim, value_dim, generator)

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        if not isinstance(weights, Plain):
            raise TypeError("the transpose of a memory is read at weights that are written out; use the engine 'materialised' or 'recurrent'.")
        w = weights.params[self.inner.weight]
        v, q = x.split([w.shape[-1], w.shape[-2]], dim=-1)
        return torch.cat([v @ w.transpose(-1, -2), q @ w], dim=-1)

    def rate_bound(self, key_dim: int) -> float:
        return self.inner.rate_bound(key_dim)
