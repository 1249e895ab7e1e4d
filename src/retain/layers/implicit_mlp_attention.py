"""Attentions in a chain: keys and values act as the layers of a perceptron."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AbstractAttention
from .norm import RMS
from .window import Sight, Window


class ImplicitMLPAttention(AbstractAttention):
    r"""$z_0 = q$, $z_i = \mathrm{SWA}(\sigma(T z_{i-1}), \mathrm{norm}(k_i), v_i)$: a perceptron whose $i$-th layer is made of the pairs $(k_i, v_i)$ in sight.

    Symbols: $\sigma$ is SiLU and $T$ mixes the heads, starting as the identity; neither stands before the first layer. Source: titans-pytorch
    (``ImplicitMLPAttention``, whose single tokens see the first key only); here over a window.

    Args:
        dim: Width of the stream.
        widths: Widths of the perceptron, from queries to answers; each is even.
        heads: Perceptrons side by side.
        window: Tokens in sight.
        theta: Base of the rotary wavelengths.

    Raises:
        ValueError: There are fewer than two widths, or one is odd; from ``forward``, a prefix is given.

    Examples:
        >>> attention = ImplicitMLPAttention(8, widths=(4, 8, 4), heads=2, window=3)
        >>> y, kept = attention(torch.randn(1, 5, 8), attention.start(1), torch.tensor([5]))
        >>> y.shape, len(kept)
        (torch.Size([1, 5, 8]), 2)
    """

    def __init__(self, dim: int, *, widths: tuple[int, ...], heads: int = 4, window: int = 64, theta: float = 10_000.0) -> None:
        super().__init__()
        if len(widths) < 2 or any(width < 2 or width % 2 for width in widths):
            raise ValueError(f"widths are at least two even numbers, from queries to answers; got {widths}.")
        self.heads, self.widths, self.window = heads, widths, Window(window, theta)
        self.to_q = nn.Linear(dim, heads * widths[0], bias=False)
        self.to_k = nn.ModuleList(nn.Linear(dim, heads * width, bias=False) for width in widths[:-1])
        self.to_v = nn.ModuleList(nn.Linear(dim, heads * width, bias=False) for width in widths[1:])
        self.norms = nn.ModuleList(RMS().build(width) for width in widths[:-1])
        self.mix = nn.Parameter(torch.eye(heads)) if len(widths) > 2 else None
        self.to_out = nn.Linear(heads * widths[-1], dim, bias=False)

    def start(self, batch: int) -> tuple[Sight, ...]:
        like = [self.to_q.weight.new_zeros(batch, 0, self.heads, width) for width in self.widths]
        return tuple(self.window.start(k, v) for k, v in pairwise(like))

    def forward(self, x: Tensor, before: tuple[Sight, ...], lengths: Tensor, prefix: Tensor | None = None) -> tuple[Tensor, tuple[Sight, ...]]:
        if prefix is not None:
            raise ValueError("ImplicitMLPAttention has no meaning for tokens without position; use no persistent tokens with it.")
        z, after = self.to_q(x).unflatten(-1, (self.heads, -1)), []
        for i, (to_k, to_v, norm) in enumerate(zip(self.to_k, self.to_v, self.norms, strict=True)):
            if i and self.mix is not None:
                z = F.silu(torch.einsum("gh,bthd->btgd", self.mix, z))
            k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (to_k, to_v))
            z, sight = self.window.look(z, norm(k), v, before[i], lengths)
            after.append(sight)
        return self.to_out(z.flatten(-2)), tuple(after)
