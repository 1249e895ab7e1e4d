"""A memory that is a small transformer layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.core.shapes import Params
from retain.numerics import Activation, activation


@dataclass(frozen=True, kw_only=True)
class AttentionMLP(AbstractStructure):
    r"""$M(x) = \mathrm{softmax}(s\, \hat q \hat k^\top)(x W_v) + \sigma(x W_1) W_2$, $\hat q, \hat k$ being $x W_q, x W_k$ of length one. Without biases.

    Tokens that are read together see those before them: keys those of their step that are written, queries those that read the same memory. Of the
    latter the first group begins with a query of zero, which stands where the step before the stream would have ended. The state
    keeps the queries of the group under way, so tokens that come one by one are answered as in one call. Source: titans-pytorch
    (``MemoryAttention``), whose answers to single tokens differ from its answers to many; initial weights are ours.

    Args:
        scale: $s$.
        expansion: Hidden width of the parallel network over key width.
        activation: $\sigma$: ``"gelu"``, ``"silu"``, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: ``scale`` or ``expansion`` is not positive, or the activation is unknown.

    Examples:
        >>> {name: tuple(w.shape) for name, w in AttentionMLP().init(heads=1, key_dim=4, value_dim=3).items()}
        {'w_q': (1, 4, 4), 'w_k': (1, 4, 4), 'w_v': (1, 4, 3), 'w_in': (1, 4, 8), 'w_out': (1, 8, 3)}
    """

    scale: float = 8.0
    expansion: float = 2.0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if self.scale <= 0 or self.expansion <= 0:
            raise ValueError(f"AttentionMLP needs a positive scale and a positive expansion, got {self.scale} and {self.expansion}.")
        activation(self.activation)

    @property
    def factored(self) -> bool:
        return False

    def company(self, params: Params) -> int:
        return params["w_q"].shape[-2]

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        hidden = max(1, int(key_dim * self.expansion))
        w_q, w_k, w_in = (torch.randn(heads, key_dim, width, generator=generator) * key_dim**-0.5 for width in (key_dim, key_dim, hidden))
        return {"w_q": w_q, "w_k": w_k, "w_v": torch.zeros(heads, key_dim, value_dim), "w_in": w_in, "w_out": torch.zeros(heads, hidden, value_dim)}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        q, k = (_of_length_one(weights.linear(name, x)) for name in ("w_q", "w_k"))
        attended = weights.attend(q, k, weights.linear("w_v", x), self.scale)
        return attended + weights.linear("w_out", weights.activate(self.activation, weights.linear("w_in", x)))

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 / (1.0 + self.expansion)


def _of_length_one(x: Tensor) -> Tensor:
    """The direction of each vector; zero, and no gradient of any order, for one that has none."""
    square = x.square().sum(-1, keepdim=True)
    some = square > torch.finfo(x.dtype).tiny
    return torch.where(some, x * torch.where(some, square, 1.0).rsqrt(), 0.0)
