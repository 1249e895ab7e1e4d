"""The wrapper that TTT, Titans' successors and most code put around a memory network."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.core.shapes import Params
from retain.numerics import layer_norm

from .mlp import MLP


@dataclass(frozen=True, kw_only=True)
class NormResidual(AbstractStructure):
    r"""$M(x) = x + (1 + \gamma) \odot \mathrm{LN}(f(x))$, where $\gamma$ belongs to the memory and is rewritten with it.

    Symbols: LN is layer normalisation without affine terms. The gain is kept as its distance from one, so that forgetting draws it to one. Source:
    TTT section 2.7 and MIRAS section 5.4, $x + \mathrm{LN}(f(x))$; that the gain is memory is a choice they leave open.

    Args:
        inner: The network $f$; its output is as wide as its input. Weights that would start at zero start at random: zero has no direction to normalise.
        eps: Added to the variance.

    Raises:
        ValueError: Keys and values differ in width, so that there is nothing to add to.

    Examples:
        >>> from retain.core.reader import Plain
        >>> net = NormResidual(inner=MLP(depth=1))
        >>> y = net.read(Plain(net.init(heads=1, key_dim=4, value_dim=4)), torch.randn(1, 2, 4))
    """

    inner: AbstractStructure = field(default_factory=MLP)
    eps: float = 1e-5

    @property
    def factored(self) -> bool:
        return self.inner.factored

    def company(self, params: Params) -> int:
        return self.inner.company(params)

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        if key_dim != value_dim:
            raise ValueError(f"NormResidual adds its input to its output, so keys and values must be equally wide, got {key_dim} and {value_dim}.")
        fresh = self.inner.init(heads, key_dim, value_dim, generator)
        start = {n: w if w.is_meta or bool(w.any()) else torch.randn(w.shape, generator=generator) * w.shape[-2] ** -0.5 for n, w in fresh.items()}
        return {**start, "gain": torch.zeros(heads, value_dim)}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        y = self.inner.read(weights, x)
        y = layer_norm(y, self.eps)
        return x + y + weights.scale("gain", y)

    def rate_bound(self, key_dim: int) -> float:
        return min(self.inner.rate_bound(key_dim), 2.0 / key_dim)
