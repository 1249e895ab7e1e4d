"""A short causal convolution, channel by channel, that can stop and go on anywhere in a stream."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.numerics.ragged import trim

FEW_TAPS = 6
"""Up to this width adding up shifted streams is faster than a convolution of the library (2 cores: a third of its time at 4, twice its time at 20)."""


class ShortConv(nn.Module):
    r"""$y_t = \sum_{j=0}^{w-1} c_j \odot x_{t-j}$.

    It starts as the identity. Source: Titans section 4.4 and MIRAS section 5.4 (depthwise convolution behind each projection, width 4 in the latter).

    Args:
        channels: Width of the stream.
        width: Tokens that it sees, itself included.

    Examples:
        >>> conv = ShortConv(2, width=3)
        >>> y, tail = conv(torch.ones(1, 4, 2), None, torch.tensor([4]))
        >>> y.shape, tail.shape
        (torch.Size([1, 4, 2]), torch.Size([1, 2, 2]))
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"a convolution sees at least one token, got width={width}.")
        self.width = width
        self.weight = nn.Parameter(torch.zeros(width, channels))  # row j is the weight of the token j places back
        with torch.no_grad():
            self.weight[0] = 1.0

    def forward(self, x: Tensor, tail: Tensor | None, lengths: Tensor | None, first: int = 0) -> tuple[Tensor, Tensor]:
        """The convolved tokens [batch, time, channels] and the last ``width - 1`` inputs of each row's first ``lengths[b]`` tokens.

        Without lengths all tokens are there. The channels may be some only, from number ``first`` on.
        """
        time, past = x.shape[1], self.width - 1
        if tail is None:
            tail = x.new_zeros(x.shape[0], past, x.shape[2])
        seen = torch.cat([tail.to(x.dtype), x], dim=1)
        weight = self.weight.to(x.dtype)
        if x.shape[2] < weight.shape[1]:
            weight = weight[:, first : first + x.shape[2]]
        if self.width > FEW_TAPS and time:
            y = F.conv1d(seen.transpose(1, 2), weight.flip(0).t().unsqueeze(1), groups=x.shape[2]).transpose(1, 2)
        elif time == 1:
            y = (seen * weight.flip(0)).sum(1, keepdim=True)
        else:
            y = seen[:, past:] * weight[0]
            for j in range(1, self.width):
                y.addcmul_(seen[:, past - j : past - j + time], weight[j])
        return y, seen[:, time:] if lengths is None else trim(seen, lengths, past)
