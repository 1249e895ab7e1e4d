"""Root-mean-square normalisation, with or without a learnt gain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RMS:
    r"""$x \mapsto \gamma \odot x / \sqrt{\mathrm{mean}(x^2) + \epsilon}$ over the last axis.

    Args:
        gain: Whether there is a $\gamma$; it starts at one.
        eps: $\epsilon$; None takes the machine precision of the input, as ``torch.nn.RMSNorm`` does.

    Examples:
        >>> RMS(gain=False).build(4)(torch.tensor([[2.0, 2.0, 2.0, 2.0]])).round(decimals=3)
        tensor([[1., 1., 1., 1.]])
    """

    gain: bool = True
    eps: float | None = 1e-6

    def build(self, *shape: int) -> RMSNorm:
        """The module, for inputs whose last axes have this shape; the last is normalised."""
        return RMSNorm(self, *shape)


class RMSNorm(nn.Module):
    """The slow weights of ``RMS``."""

    def __init__(self, spec: RMS, *shape: int) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(shape)) if spec.gain else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x, x.shape[-1:], eps=self.spec.eps)
        return y if self.weight is None else y * self.weight
