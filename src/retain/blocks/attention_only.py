"""Attention and nothing else, over a window or over all: what the memories are measured against."""

from __future__ import annotations

from torch import Tensor

from retain.layers.attention import AbstractAttention

from .mixer import AbstractMixer, persistent_tokens
from .state import BlockState


class AttentionOnly(AbstractMixer):
    r"""$y = \mathrm{Attention}(P \,\|\, x)$: the block of a transformer, whose sight ends where that of ``attention`` does.

    Args:
        attention: Over a window, or with ``window=None`` over all that was read.
        dim: Width of the stream.
        persistent: How many persistent tokens $P$ has.

    Examples:
        >>> import torch
        >>> from retain.layers.attention import Attention
        >>> mixer = AttentionOnly(Attention(heads=2, window=4).build(8), 8)
        >>> y, state = mixer(torch.randn(1, 9, 8), mixer.start(1), torch.tensor([9]))
        >>> y.shape
        torch.Size([1, 9, 8])
    """

    def __init__(self, attention: AbstractAttention, dim: int, *, persistent: int = 0) -> None:
        super().__init__()
        self.attention, self.persistent = attention, persistent_tokens(persistent, dim)

    def start(self, batch: int) -> BlockState:
        return BlockState(sights=self.attention.start(batch))

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        y, sights = self.attention(x, state.sights, lengths, self.persistent)
        return y, BlockState(sights=sights)
