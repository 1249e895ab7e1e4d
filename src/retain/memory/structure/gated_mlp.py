"""A memory that is a gated multi-layer perceptron (SwiGLU and kin)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class GatedMLP(AbstractStructure):
    r"""$M(x) = \big(\sigma(x W_g) \odot x W_u\big) W_d$, without biases.

    Source: ATLAS equation 43 without its residual; wrap it in ``NormResidual`` for one.

    Args:
        expansion: Hidden width over key width.
        activation: Of the gate: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``expansion`` is not positive, or the activation is unknown.

    Examples:
        >>> list(GatedMLP().init(heads=1, key_dim=4, value_dim=4))
        ['gate', 'up', 'down']
    """

    expansion: float = 4.0
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        if self.expansion <= 0:
            raise ValueError(f"GatedMLP.expansion must be positive, got {self.expansion}.")
        activation(self.activation)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        hidden = max(1, int(key_dim * self.expansion))
        return {
            "gate": torch.randn(heads, key_dim, hidden, generator=generator),
            "up": torch.randn(heads, key_dim, hidden, generator=generator),
            "down": torch.randn(heads, hidden, value_dim, generator=generator) * hidden**-0.5,
        }

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        return weights.linear("down", weights.activate(self.activation, weights.linear("gate", x)) * weights.linear("up", x))

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 / key_dim
