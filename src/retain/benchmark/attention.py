"""Torch's own attention as a layer of the same width: what a memory of fixed size is an alternative to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Causal scaled dot-product attention between projections of queries, keys and values and one of the output.

    Args:
        dim: Width of the stream.
        head_dim: Width of a head.
    """

    def __init__(self, dim: int, head_dim: int = 64) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim)
        self.heads = dim // head_dim
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Outputs [batch, time, dim], and no state."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.to_out(y.transpose(1, 2).flatten(-2)), None
