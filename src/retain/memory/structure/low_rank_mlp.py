"""A memory whose matrices are products of two thin ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class LowRankMLP(AbstractStructure):
    r"""$M(x) = \sigma(\cdots \sigma(x A_0 B_0) A_1 B_1 \cdots) A_{L-1} B_{L-1}$, with $A_i$ of width ``rank``. Without biases.

    Source: titans-pytorch (``FactorizedMemoryMLP``); initial weights are ours.

    Args:
        depth: Pairs of linear maps.
        rank: Width between the two of a pair.
        activation: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``depth`` or ``rank`` is below 1, or the activation is unknown.

    Examples:
        >>> {name: tuple(w.shape) for name, w in LowRankMLP(depth=1, rank=2).init(heads=1, key_dim=4, value_dim=3).items()}
        {'w0_in': (1, 4, 2), 'w0_out': (1, 2, 3)}
    """

    depth: int = 2
    rank: int = 32
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if self.depth < 1 or self.rank < 1:
            raise ValueError(f"LowRankMLP needs depth >= 1 and rank >= 1, got {self.depth} and {self.rank}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        weights = {}
        for i in range(self.depth):
            out = value_dim if i == self.depth - 1 else key_dim
            weights[f"w{i}_in"] = torch.randn(heads, key_dim, self.rank, generator=generator) * (1.0 if i == 0 else key_dim**-0.5)
            weights[f"w{i}_out"] = torch.randn(heads, self.rank, out, generator=generator) * self.rank**-0.5
        return weights

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        for i in range(self.depth):
            x = x if i == 0 else weights.activate(self.activation, x)
            x = weights.linear(f"w{i}_out", weights.linear(f"w{i}_in", x))
        return x

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 / (max(self.rank, key_dim) * self.depth)
