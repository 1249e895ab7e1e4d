"""What becomes of a memory's answer: normalised, gated, projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import RMS


@dataclass(frozen=True, kw_only=True)
class Output:
    r"""$o = W_o\,(\mathrm{norm}(y) \odot \mathrm{gate}(x))$.

    Source: Titans section 4.4 (normalisation and a linear gate before the output projection; the gate's activation is not stated, ours is SiLU).

    Args:
        norm: ``"rms"``, root mean square head by head with a learnt gain, an ``RMS``, or None.
        gate: ``"channel"``: $\mathrm{silu}(W_g x)$; ``"head"``: one sigmoid a head; or None.
        project: Whether there is a $W_o$. Without one, heads times head width must be the width of the model.

    Examples:
        >>> Output(gate=None).norm
        'rms'
    """

    norm: Literal["rms"] | RMS | None = "rms"
    gate: Literal["channel", "head"] | None = "channel"
    project: bool = True

    def build(self, dim: int, heads: int, head_dim: int) -> OutputMap:
        """The module, with slow weights of its own."""
        return OutputMap(self, dim, heads, head_dim)


class OutputMap(nn.Module):
    """The slow weights of ``Output``."""

    def __init__(self, output: Output, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        if not output.project and inner != dim:
            raise ValueError(f"Output(project=False) needs heads * head_dim = dim, got {heads} * {head_dim} and {dim}.")
        self.output = output
        norm = RMS() if output.norm == "rms" else output.norm
        self.norm = None if norm is None else norm.build(heads, head_dim)
        self.to_gate = nn.Linear(dim, inner if output.gate == "channel" else heads, bias=False) if output.gate else None
        self.to_out = nn.Linear(inner, dim, bias=False) if output.project else None

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The layer's answer [batch, time, dim] to the memory's [batch, time, heads, head_dim] and the layer's input."""
        if self.norm is not None:
            y = self.norm(y)
        if self.output.gate == "head":
            assert self.to_gate is not None
            y = y * torch.sigmoid(self.to_gate(x)).unsqueeze(-1)
        y = y.flatten(-2)
        if self.output.gate == "channel":
            assert self.to_gate is not None
            y = y * F.silu(self.to_gate(x))
        y = y.to(x.dtype)
        return y if self.to_out is None else self.to_out(y)
