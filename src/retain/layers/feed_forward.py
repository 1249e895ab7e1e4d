"""The token-wise half of a block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    r"""$W_2\,(\mathrm{silu}(W_g x) \odot W_1 x)$ (SwiGLU), without biases.

    Args:
        dim: Width of the stream.
        hidden: Width inside.

    Examples:
        >>> import torch
        >>> FeedForward(4, 8)(torch.zeros(1, 2, 4)).shape
        torch.Size([1, 2, 4])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)
