"""What a memory is given: queries, keys and values, made from the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .short_conv import ShortConv


@dataclass(frozen=True, kw_only=True)
class Projections:
    r"""$q, k, v$: linear map, short causal convolution, activation; then $q$ and $k$ are normalised head by head.

    Source: Titans section 4.4 (the order of convolution and activation is not stated there; ours is the usual one).

    Args:
        conv: Tokens that the convolution sees; 1 has none.
        activation: ``"silu"``, or None.
        norm: Of queries and keys: ``"l2"`` (length one), ``"rms"`` (root mean square one), or None.
        pairs: Key-value pairs that each token writes.
        start: ``"plain"``, or ``"recall"``: keys begin as the queries of one token earlier, so that from the first step on a token is bound to what comes
            next and a query for the present finds it. Training may leave it. It is ours, not the papers', and turns minutes of training into seconds.

    Raises:
        ValueError: ``pairs`` is below 1, or ``start="recall"`` lacks a convolution of at least 2 tokens or has several pairs.

    Examples:
        >>> Projections(start="recall").conv
        4
    """

    conv: int = 4
    activation: Literal["silu"] | None = "silu"
    norm: Literal["l2", "rms"] | None = "l2"
    pairs: int = 1
    start: Literal["plain", "recall"] = "plain"

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"Projections.pairs must be at least 1, got {self.pairs}.")
        if self.start == "recall" and (self.conv < 2 or self.pairs > 1):
            raise ValueError(
                "Projections(start='recall') shifts keys by one token with the convolution, so it needs conv >= 2 and pairs = 1, "
                f"got conv={self.conv} and pairs={self.pairs}."
            )

    def build(self, dim: int, heads: int, head_dim: int) -> ProjectionMap:
        """The module, with slow weights of its own."""
        return ProjectionMap(self, dim, heads, head_dim)


class ProjectionMap(nn.Module):
    """The slow weights of ``Projections``."""

    def __init__(self, projections: Projections, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.projections, self.heads = projections, heads
        inner, pairs = heads * head_dim, projections.pairs
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner * pairs, bias=False)
        self.to_v = nn.Linear(dim, inner * pairs, bias=False)
        self.conv = ShortConv(inner * (1 + 2 * pairs), projections.conv) if projections.conv > 1 else None
        if projections.start == "recall":
            self._start_recalling(inner)

    def _start_recalling(self, inner: int) -> None:
        assert self.conv is not None
        width = self.conv.width
        with torch.no_grad():
            self.to_k.weight.copy_(self.to_q.weight)
            kernel = torch.randn(width - 1, inner) * 0.5
            kernel[0] = 1.0
            self.conv.weight[:, : 2 * inner] = 0.0
            self.conv.weight[: width - 1, :inner] = kernel
            self.conv.weight[1:, inner : 2 * inner] = kernel

    def forward(self, x: Tensor, tail: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries [batch, time, heads, key], keys and values [batch, time, heads, pairs, width], and the tail of the convolution."""
        spec, parts = self.projections, [self.to_q(x), self.to_k(x), self.to_v(x)]
        if self.conv is not None:
            joined, tail = self.conv(torch.cat(parts, dim=-1), tail, lengths)
            parts = joined.split([part.shape[-1] for part in parts], dim=-1)
        if spec.activation is not None:
            parts = [F.silu(part) for part in parts]
        q, k, v = parts
        q = q.unflatten(-1, (self.heads, -1))
        k, v = (part.unflatten(-1, (self.heads, spec.pairs, -1)) for part in (k, v))
        return self._normal(q), self._normal(k), v, tail

    def _normal(self, x: Tensor) -> Tensor:
        if self.projections.norm is None:
            return x
        squares = x.square().sum(-1, keepdim=True) if self.projections.norm == "l2" else x.square().mean(-1, keepdim=True)
        return x * torch.rsqrt(squares + 1e-6)
