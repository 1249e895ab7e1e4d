"""Attention whose queries, keys and values are themselves what an attention says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import AbstractAttention
from .norm import RMS
from .window import Sight, Window


class NestedAttention(AbstractAttention):
    r"""$q', k', v' = \mathrm{SWA}(q, k_i, v_i),\ i = 1..3$, and $y = \mathrm{SWA}(q', \mathrm{norm}(k'), v')$; keys are normalised.

    Source: titans-pytorch (``NestedAttention``, whose single tokens see the first key only); here over a window.

    Args:
        dim: Width of the stream.
        heads: Heads.
        window: Tokens in sight of each of the four attentions.
        theta: Base of the rotary wavelengths.

    Raises:
        ValueError: ``heads`` does not cut ``dim`` into equal and even widths; from ``forward``, a prefix is given.

    Examples:
        >>> attention = NestedAttention(8, heads=2, window=3)
        >>> y, kept = attention(torch.randn(1, 5, 8), attention.start(1), torch.tensor([5]))
        >>> y.shape, len(kept)
        (torch.Size([1, 5, 8]), 4)
    """

    def __init__(self, dim: int, *, heads: int = 4, window: int = 64, theta: float = 10_000.0) -> None:
        super().__init__()
        if dim % heads or (dim // heads) % 2:
            raise ValueError(f"attention needs heads of equal and even width, got dim={dim} and heads={heads}.")
        self.heads, self.head_dim, self.window = heads, dim // heads, Window(window, theta)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 6 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.norms = nn.ModuleList(RMS().build(self.head_dim) for _ in range(4))

    def start(self, batch: int) -> tuple[Sight, ...]:
        like = self.to_q.weight.new_zeros(batch, 0, self.heads, self.head_dim)
        return (self.window.start(like, like),) * 4

    def forward(self, x: Tensor, before: tuple[Sight, ...], lengths: Tensor, prefix: Tensor | None = None) -> tuple[Tensor, tuple[Sight, ...]]:
        if prefix is not None:
            raise ValueError("NestedAttention has no meaning for tokens without position; use no persistent tokens with it.")
        q = self.to_q(x).unflatten(-1, (self.heads, self.head_dim))
        keys, values = self.to_kv(x).unflatten(-1, (2, 3, self.heads, self.head_dim)).unbind(-4)
        inner, after = [], []
        for i in range(3):
            y, sight = self.window.look(q, self.norms[i](keys[:, :, i]), values[:, :, i], before[i], lengths)
            inner.append(y)
            after.append(sight)
        y, sight = self.window.look(inner[0], self.norms[3](inner[1]), inner[2], before[3], lengths)
        return self.to_out(torch.flatten(y, -2)), (*after, sight)
