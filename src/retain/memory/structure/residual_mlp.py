"""A perceptron beside the identity: the memory of Hope."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class ResidualMLP(AbstractStructure):
    r"""$M(x) = x + \sigma(x W_0) W_1$, without biases.

    Symbols: ``w0`` is the paper's $W_2$ and ``w1`` its $W_1$. Source: Nested Learning equations 89 and 91; hidden width, activation and initial weights
    are not stated. Ours begin near the identity, with hidden units of variance one for inputs whose numbers have it.

    Args:
        expansion: Hidden width over the width of the stream.
        activation: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``expansion`` is not positive, the activation is unknown, or keys and values differ in width.

    Examples:
        >>> from retain.core.reader import Plain
        >>> net = ResidualMLP()
        >>> weights = net.init(heads=1, key_dim=4, value_dim=4)
        >>> [tuple(w.shape) for w in weights.values()]
        [(1, 4, 8), (1, 8, 4)]
        >>> net.read(Plain({**weights, "w1": torch.zeros(1, 8, 4)}), torch.ones(1, 1, 4))
        tensor([[[1., 1., 1., 1.]]])
    """

    expansion: float = 2.0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if self.expansion <= 0:
            raise ValueError(f"ResidualMLP.expansion must be positive, got {self.expansion}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        if key_dim != value_dim:
            raise ValueError(f"ResidualMLP adds its input to its output, so keys and values must be equally wide, got {key_dim} and {value_dim}.")
        hidden = max(1, int(key_dim * self.expansion))
        return {
            "w0": torch.randn(heads, key_dim, hidden, generator=generator) * key_dim**-0.5,
            "w1": torch.randn(heads, hidden, value_dim, generator=generator) * 0.1 * hidden**-0.5,
        }

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        return x + weights.linear("w1", weights.activate(self.activation, weights.linear("w0", x)))

    def rate_bound(self, key_dim: int) -> float:
        return 4.0 / max(1.0, self.expansion)  # hidden units of a key of length one are small: their squares sum to a quarter of the expansion
