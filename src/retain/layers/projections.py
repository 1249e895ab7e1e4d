"""What a memory is given: queries, keys and values, made from the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from retain.core.rule import MemoryRule
from retain.core.tokens import Step
from retain.core.trees import by_channel
from retain.numerics import Activation, activation

from .features import Polynomial
from .norm import RMS
from .short_conv import ShortConv


@dataclass(frozen=True, kw_only=True)
class Projections:
    r"""$q, k, v$: linear map, short causal convolution, activation; then $q$ and $k$ are normalised head by head, and made into features.

    Source: Titans section 4.4 (the order of convolution and activation is not stated there; ours is the usual one).

    Args:
        conv: Tokens that the convolution sees; 1 has none.
        activation: Of queries, keys and values: ``"gelu"``, ``"silu"``, ``"relu"``, ``"tanh"``, or None.
        norm: Of queries and keys, head by head: ``"l2"`` (length one), ``"rms"`` (root mean square one), an ``RMS``, or None.
        pairs: Key-value pairs that each token writes.
        start: ``"plain"``, or ``"recall"``: keys begin as the queries of one token earlier, so that from the first step on a token is bound to what comes
            next and a query for the present finds it. Training may leave it. It is ours, not the papers', and turns minutes of training into seconds.
        values: ``"same"``, or ``"next"``: within a step each key is bound to the value of the pair behind it, and the step's last key to none. Source:
            Fast-weight Product Key Memory, in titans-pytorch's form (``store_with_lookahead_value``).
        prenorm: Of the stream before all else, one for what is read with and one for what is written; None has none.
        features: What queries and keys are made into in the end, the same for both; None leaves them as they are. Keys are then wider than values, which
            a memory with a residual around it does not bear.

    Raises:
        ValueError: ``pairs`` is below 1, the activation is unknown, or ``start="recall"`` lacks a convolution of at least 2 tokens or has several pairs.

    Examples:
        >>> Projections(start="recall").conv
        4
    """

    conv: int = 4
    activation: Activation | None = "silu"
    norm: Literal["l2", "rms"] | RMS | None = "l2"
    pairs: int = 1
    start: Literal["plain", "recall"] = "plain"
    values: Literal["same", "next"] = "same"
    prenorm: RMS | None = None
    features: Polynomial | None = None

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"Projections.pairs must be at least 1, got {self.pairs}.")
        if self.activation is not None:
            activation(self.activation)
        if self.start == "recall" and (self.conv < 2 or self.pairs > 1):
            raise ValueError(
                "Projections(start='recall') shifts keys by one token with the convolution, so it needs conv >= 2 and pairs = 1, "
                f"got conv={self.conv} and pairs={self.pairs}."
            )

    def key_width(self, head_dim: int, rule: MemoryRule) -> int:
        """How wide the queries and keys of a head are.

        Raises:
            ValueError: Features make keys wider than values, and a memory of this rule cannot be.
        """
        if self.features is None:
            return head_dim
        width = self.features.width(head_dim)
        try:
            weights = rule.structure.init(1, width, head_dim)
            if rule.retention.gate in ("channel", "outer"):
                numbers = width if rule.retention.gate == "channel" else width + head_dim
                rule.retention.keep(weights, Step(retain=torch.ones(1, numbers)))
            if rule.learner.channel_max:
                by_channel(torch.ones(1, width), weights, "learner.PerChannel", "the learner inside by itself")
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"{self.features} makes keys of width {head_dim} into keys of width {width}, and a memory of this rule does not take them. {error} "
                "Cure: a structure without a residual around it, such as Matrix() or MLP(), and retention and learner with one number a head."
            ) from error
        return width

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
        norm = RMS(gain=False) if projections.norm == "rms" else projections.norm
        self.norm_q, self.norm_k = (norm.build(heads, head_dim), norm.build(heads, head_dim)) if isinstance(norm, RMS) else (None, None)
        prenorm = projections.prenorm
        self.norm_read, self.norm_write = (None, None) if prenorm is None else (prenorm.build(dim), prenorm.build(dim))
        self.features = None if projections.features is None else projections.features.build(head_dim)
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

    @property
    def reach(self) -> Tensor | float:
        """What features multiply the squared length of a key of length one by."""
        return 1.0 if self.features is None else self.features.reach

    def tail(self, batch: int) -> Tensor | None:
        """The tail of the convolution at the start of a stream, if there is one."""
        return None if self.conv is None else self.conv.weight.new_zeros(batch, self.conv.width - 1, self.conv.weight.shape[1])

    def views(self, x: Tensor, store: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What is read with, what keys and gates are made of, and what values are made of."""
        return self.view(x), *self.stored(store)

    def view(self, x: Tensor) -> Tensor:
        """What is read with."""
        return x if self.norm_read is None else self.norm_read(x)

    def stored(self, store: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What keys and gates are made of, and what values are made of."""
        if self.norm_write is None:
            return store
        keys = self.norm_write(store[0])
        return keys, keys if store[1] is store[0] else self.norm_write(store[1])

    def forward(self, views: tuple[Tensor, Tensor, Tensor], tail: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries [batch, time, heads, key], keys and values [batch, time, heads, pairs, width], and the tail of the convolution."""
        parts = [self.to_q(views[0]), self.to_k(views[1]), self.to_v(views[2])]
        if self.conv is not None:
            joined, tail = self.conv(torch.cat(parts, dim=-1), tail, lengths)
            parts = joined.split([part.shape[-1] for part in parts], dim=-1)
        return self._queries(parts[0]), *self._associations(parts[1], parts[2]), tail

    def queries(self, view: Tensor, tail: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The queries alone, and the tail of their part of the convolution; of all tokens if ``lengths`` is None."""
        q = self.to_q(view)
        if self.conv is not None:
            q, tail = self.conv(q, tail, lengths)
        return self._queries(q), tail

    def associations(self, views: tuple[Tensor, Tensor], tail: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values alone, and the tail of their part of the convolution."""
        k, v = self.to_k(views[0]), self.to_v(views[1])
        if self.conv is not None:
            joined, tail = self.conv(torch.cat([k, v], dim=-1), tail, lengths, first=self.to_q.out_features)
            k, v = joined.split([k.shape[-1], v.shape[-1]], dim=-1)
        return *self._associations(k, v), tail

    def _queries(self, q: Tensor) -> Tensor:
        q = self._bent(q).unflatten(-1, (self.heads, -1))
        q = self._normal(q) if self.norm_q is None else self.norm_q(q)
        return q if self.features is None else self.features(q)

    def _associations(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (self._bent(part).unflatten(-1, (self.heads, self.projections.pairs, -1)) for part in (k, v))
        k = self._normal(k) if self.norm_k is None else self.norm_k(k.transpose(2, 3)).transpose(2, 3)
        return k if self.features is None else self.features(k), v

    def _bent(self, x: Tensor) -> Tensor:
        return x if self.projections.activation is None else activation(self.projections.activation)(x)

    def _normal(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6) if self.projections.norm == "l2" else x
