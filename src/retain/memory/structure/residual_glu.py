"""A memory like the feed-forward layers of a transformer: gated linear units, each added to its input, and a norm at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation, layer_norm


@dataclass(frozen=True, kw_only=True)
class ResidualGLU(AbstractStructure):
    r"""$[a, g] = x W_1$, $x \leftarrow x + (a \odot \sigma(g)) W_2$, layer after layer; then $M = (1 + \gamma) \odot \mathrm{LN}(x)$. Without biases.

    Source: titans-pytorch (``MemorySwiGluMLP``, whose gate is a GELU); initial weights are ours.

    Args:
        depth: Layers.
        expansion: Two thirds of it are the hidden width over key width, as is usual for gated units.
        activation: Of the gate: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.
        eps: Added to the variance.

    Raises:
        ValueError: ``depth`` is below 1, ``expansion`` is not positive, the activation is unknown, or keys and values differ in width.

    Examples:
        >>> {name: tuple(w.shape) for name, w in ResidualGLU(expansion=3).init(heads=1, key_dim=4, value_dim=4).items()}
        {'w0_in': (1, 4, 16), 'w0_out': (1, 8, 4), 'norm': (1, 4)}
    """

    depth: int = 1
    expansion: float = 4.0
    activation: Activation = "gelu"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.depth < 1 or self.expansion <= 0:
            raise ValueError(f"ResidualGLU needs depth >= 1 and a positive expansion, got {self.depth} and {self.expansion}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        if key_dim != value_dim:
            raise ValueError(f"ResidualGLU adds to its input, so keys and values must be equally wide, got {key_dim} and {value_dim}.")
        hidden, weights = max(1, int(key_dim * self.expansion * 2 / 3)), {}
        for i in range(self.depth):
            weights[f"w{i}_in"] = torch.randn(heads, key_dim, 2 * hidden, generator=generator)
            weights[f"w{i}_out"] = torch.randn(heads, hidden, key_dim, generator=generator) * (hidden * key_dim) ** -0.5
        return weights | {"norm": torch.zeros(heads, value_dim)}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        for i in range(self.depth):
            a, gate = weights.linear(f"w{i}_in", x).chunk(2, dim=-1)
            x = x + weights.linear(f"w{i}_out", a * weights.activate(self.activation, gate))
        x = layer_norm(x, self.eps)
        return x + weights.scale("norm", x)

    def rate_bound(self, key_dim: int) -> float:
        return 0.5 / (max(1.0, self.expansion) * key_dim * key_dim * self.depth)
