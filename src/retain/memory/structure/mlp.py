"""A memory that is a multi-layer perceptron: the deep memory of Titans."""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class MLP(AbstractStructure):
    r"""$M(x) = \sigma(\cdots\sigma(x W_0)\cdots) W_{L-1}$, without biases.

    Symbols: ``depth`` is Titans' $L_M$; the hidden width is ``expansion`` times the width of a key. Source: Titans section 3.1 (an MLP of
    $L_M \ge 1$ layers); width, activation and initial weights are not in the paper and are ours: expansion 4 and GELU as in MIRAS and TTT, weights
    drawn so that keys of length one give hidden units of variance one.

    Args:
        depth: Linear maps, 1 to 4. Depth 1 is a matrix with a random start.
        expansion: Hidden width over key width.
        activation: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``depth`` is not 1 to 4, ``expansion`` is not positive, or the activation is unknown.

    Examples:
        >>> from retain.core.reader import Plain
        >>> net = MLP(depth=2, expansion=4)
        >>> weights = net.init(heads=1, key_dim=8, value_dim=8)
        >>> [tuple(w.shape) for w in weights.values()], net.read(Plain(weights), torch.ones(1, 3, 8)).shape
        ([(1, 8, 32), (1, 32, 8)], torch.Size([1, 3, 8]))
    """

    depth: int = 2
    expansion: float = 4.0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 4:
            raise ValueError(f"MLP.depth must be 1 to 4, the range that Titans studies, got {self.depth}.")
        if self.expansion <= 0:
            raise ValueError(f"MLP.expansion must be positive, got {self.expansion}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        hidden = max(1, int(key_dim * self.expansion))
        widths = [key_dim] + [hidden] * (self.depth - 1) + [value_dim]
        return {
            f"w{i}": torch.randn(heads, widths[i], widths[i + 1], generator=generator) * (1.0 if i == 0 and self.depth > 1 else widths[i] ** -0.5)
            for i in range(self.depth)
        }

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        x = weights.linear("w0", x)
        for i in range(1, self.depth):
            x = weights.linear(f"w{i}", weights.activate(self.activation, x))
        return x

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 if self.depth == 1 else 4.0 / (max(2.0, self.expansion) * key_dim * (self.depth - 1))
