"""A memory of residual blocks that choose how much of themselves to let through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class GatedResidualMLP(AbstractStructure):
    r"""$b = \sigma(x W_1) W_2$, $x \leftarrow x + \mathrm{sigmoid}([b, x] W_g) \odot (b - x)$, block after block; then $M = x W_o$. Without biases.

    Source: titans-pytorch (``GatedResidualMemoryMLP``); initial weights are ours.

    Args:
        depth: Blocks.
        expansion: Hidden width of a block over key width.
        activation: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``depth`` is below 1, ``expansion`` is not positive, or the activation is unknown.

    Examples:
        >>> {name: tuple(w.shape) for name, w in GatedResidualMLP(depth=1).init(heads=1, key_dim=4, value_dim=4).items()}
        {'w0_in': (1, 4, 16), 'w0_out': (1, 16, 4), 'w0_gate': (1, 8, 4), 'out': (1, 4, 4)}
    """

    depth: int = 2
    expansion: float = 4.0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if self.depth < 1 or self.expansion <= 0:
            raise ValueError(f"GatedResidualMLP needs depth >= 1 and a positive expansion, got {self.depth} and {self.expansion}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        hidden, weights = max(1, int(key_dim * self.expansion)), {}
        for i in range(self.depth):
            weights[f"w{i}_in"] = torch.randn(heads, key_dim, hidden, generator=generator)
            weights[f"w{i}_out"] = torch.randn(heads, hidden, key_dim, generator=generator) * (hidden * key_dim) ** -0.5
            weights[f"w{i}_gate"] = torch.randn(heads, 2 * key_dim, key_dim, generator=generator)
        return weights | {"out": torch.randn(heads, key_dim, value_dim, generator=generator)}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        for i in range(self.depth):
            branch = weights.linear(f"w{i}_out", weights.activate(self.activation, weights.linear(f"w{i}_in", x)))
            gate = torch.sigmoid(weights.linear(f"w{i}_gate", torch.cat([branch, x], dim=-1)))
            x = x + gate * (branch - x)
        return weights.linear("out", x)

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 / (max(1.0, self.expansion) * key_dim * self.depth)
