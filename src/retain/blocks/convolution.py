"""A short convolution and nothing else: what a stream without attention sees of its last few tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retain.layers.short_conv import ShortConv

from .mixer import AbstractMixer
from .state import BlockState


class Convolution(AbstractMixer):
    r"""$y_t = W \sum_{j<w} c_j \odot x_{t-j}$: each channel its own kernel over the last $w$ tokens, then a linear map.

    It tells the memories above it in what company a token stands, at a small part of attention's cost. Source: the depthwise-separable convolution
    of Titans section 4.4, here as a block of its own, which is ours.

    Args:
        dim: Width of the stream.
        width: Tokens $w$ that it sees, the present one included.

    Examples:
        >>> mixer = Convolution(8, width=4)
        >>> y, state = mixer(torch.randn(1, 9, 8), mixer.start(1), torch.tensor([9]))
        >>> y.shape, state.tensors["tail"].shape
        (torch.Size([1, 9, 8]), torch.Size([1, 3, 8]))
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv, self.out = ShortConv(dim, width), nn.Linear(dim, dim, bias=False)
        with torch.no_grad():
            self.conv.weight[1:].normal_(0, 0.3)

    def start(self, batch: int) -> BlockState:
        return BlockState(tensors={"tail": self.conv.weight.new_zeros(batch, self.conv.width - 1, self.conv.weight.shape[1])})

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        y, tail = self.conv(x, state.tensors["tail"], lengths)
        return self.out(y), BlockState(tensors={"tail": tail})
