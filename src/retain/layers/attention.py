"""Attention over the last tokens of a stream, or over all, with a prefix that is always in sight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .window import Sight, Window


class AbstractAttention(nn.Module, ABC):
    """Something that looks back, and can stop and go on anywhere."""

    @abstractmethod
    def start(self, batch: int) -> tuple[Sight, ...]:
        """What is kept before the first token of ``batch`` streams."""

    @abstractmethod
    def forward(self, x: Tensor, before: tuple[Sight, ...], lengths: Tensor, prefix: Tensor | None = None) -> tuple[Tensor, tuple[Sight, ...]]:
        """The answers [batch, time, dim] to tokens of which row b has ``lengths[b]``, and what is kept behind them.

        ``prefix`` [tokens, dim] or [batch, tokens, dim] is in sight of all of them.
        """


_OWN_SCORE = 8.0


@dataclass(frozen=True, kw_only=True)
class Attention:
    r"""$y_i = \sum_j \mathrm{softmax}_j(q_i^\top k_j / \sqrt{d})\, v_j$ over the prefix and the last ``window`` tokens, token $i$ included.

    Positions turn queries and keys (rotary embedding), so that scores depend on distances only; the prefix has no position. Source: Titans
    equation 2, with the width of a head for that of the model, and figure 3b.

    Args:
        heads: Query heads.
        kv_heads: Key and value heads, each shared by ``heads / kv_heads`` query heads; None has as many as ``heads``.
        window: Tokens in sight; None for all that were read, of which then all keys and values are kept.
        theta: Base of the rotary wavelengths.
        start: ``"plain"``, or ``"self"``: keys begin as the queries, the output map as the inverse of that for values, and a token scores itself about 8
            above others, so that it comes through nearly as it is. Training may leave it. A memory that is written by attention, as in MAC, then has
            single tokens to bind from the first step on; it is ours, not the papers', and turns a plateau into seconds of training.

    Raises:
        ValueError: ``start`` is unknown, a number is not positive, or ``kv_heads`` does not divide ``heads``.

    Examples:
        >>> import torch
        >>> attention = Attention(heads=2, window=3).build(8)
        >>> y, kept = attention(torch.randn(1, 5, 8), attention.start(1), torch.tensor([5]))
        >>> y, kept = attention(torch.randn(1, 1, 8), kept, torch.tensor([1]))
        >>> y.shape, kept[0].clock
        (torch.Size([1, 1, 8]), tensor([6]))
    """

    heads: int = 4
    kv_heads: int | None = None
    window: int | None = 64
    theta: float = 10_000.0
    start: Literal["plain", "self"] = "plain"

    def __post_init__(self) -> None:
        if self.start not in ("plain", "self"):
            raise ValueError(f"Attention.start must be 'plain' or 'self', got {self.start!r}.")
        if min(self.heads, self.shared, 1 if self.window is None else self.window, self.theta) <= 0:
            raise ValueError(f"heads, kv_heads, window and theta are positive, got {self.heads}, {self.kv_heads}, {self.window} and {self.theta}.")
        if self.heads % self.shared:
            raise ValueError(f"kv_heads must divide heads, got {self.kv_heads} and {self.heads}.")

    @property
    def shared(self) -> int:
        """``kv_heads``, spelled out."""
        return self.heads if self.kv_heads is None else self.kv_heads

    def build(self, dim: int) -> AttentionMap:
        """The module, with slow weights of its own."""
        return AttentionMap(self, dim)


class AttentionMap(AbstractAttention):
    """The slow weights of ``Attention``."""

    def __init__(self, spec: Attention, dim: int) -> None:
        super().__init__()
        if dim % spec.heads or (dim // spec.heads) % 2:
            raise ValueError(f"attention needs heads of equal and even width, got dim={dim} and heads={spec.heads}.")
        self.spec, self.head_dim, self.window = spec, dim // spec.heads, Window(spec.window, spec.theta)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * spec.shared * self.head_dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        if spec.start == "self":
            self._start_with_oneself()

    def _start_with_oneself(self) -> None:
        shared, groups = self.spec.shared * self.head_dim, self.spec.heads // self.spec.shared
        gain = (_OWN_SCORE / self.head_dim**0.5) ** 0.5  # of tokens whose root mean square is one
        with torch.no_grad():
            for part in self.to_kv.weight.split(shared):
                nn.init.orthogonal_(part)
            k, v = (part.unflatten(0, (self.spec.shared, self.head_dim)).repeat_interleave(groups, 0) for part in self.to_kv.weight.split(shared))
            self.to_out.weight.copy_(v.flatten(0, 1).t() / groups)
            self.to_q.weight.copy_(gain * k.flatten(0, 1))
            self.to_kv.weight[:shared] *= gain

    def start(self, batch: int) -> tuple[Sight, ...]:
        like = self.to_q.weight.new_zeros(batch, 0, self.spec.shared, self.head_dim)
        return (self.window.start(like, like),)

    def forward(self, x: Tensor, before: tuple[Sight, ...], lengths: Tensor, prefix: Tensor | None = None) -> tuple[Tensor, tuple[Sight, ...]]:
        q, k, v = self.project(x)
        ahead = None
        if prefix is not None:
            _, *pair = self.project(prefix.expand(x.shape[0], *prefix.shape[-2:]))
            ahead = pair[0], pair[1]
        y, after = self.window.look(q, k, v, before[0], lengths, ahead)
        return self.to_out(y.flatten(-2)), (after,)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [..., heads, head_dim], without position."""
        k, v = self.to_kv(x).unflatten(-1, (2, self.spec.shared, self.head_dim)).unbind(-3)
        return self.to_q(x).unflatten(-1, (self.spec.heads, self.head_dim)), k, v
