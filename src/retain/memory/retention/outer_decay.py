"""Decay of a matrix with rates for its rows and for its columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from retain.core.contracts import AbstractOuterRetention
from retain.core.shapes import Params
from retain.core.tokens import Step

from .decay import given


@dataclass(frozen=True, kw_only=True)
class OuterDecay(AbstractOuterRetention):
    r"""$A_t = (a_t b_t^\top) \odot A_{t-1} + \Delta_t$, with $a_t$ over the channels of the keys and $b_t$ over those of the values.

    With $a_t = 1$ it is a gate for each output of the memory, $\mathrm{diag}(b_t) M_{t-1}$ in the papers' convention. Symbols: ``retain`` holds $a_t$ and,
    behind it, $b_t$. Source: Decaying Fast Weights in MIRAS Table 1; Titans equation 32 for $a_t = 1$.

    Args:
        grad_at: As for ``Decay``.

    Raises:
        ValueError: From a step, if a weight of the memory is no matrix as wide as the gate.

    Examples:
        >>> import torch
        >>> OuterDecay().keep({"w": torch.ones(1, 2, 1)}, Step(retain=torch.tensor([[1.0, 0.5, 0.1]])))
        {'w': tensor([[[0.1000],
                 [0.0500]]])}
    """

    grad_at: Literal["previous", "decayed"] = "previous"

    @property
    def gate(self) -> Literal["none", "head", "channel", "outer"]:
        return "outer"

    def ratios(self, retain: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        gate = given(retain, self)
        return gate[..., :rows], gate[..., rows:]

    def keep(self, accumulator: Params, step: Step) -> Params:
        retain, out = given(step.retain, self), {}
        for name, a in accumulator.items():
            shape = a.shape[retain.ndim - 1 :]
            if len(shape) != 2 or sum(shape) != retain.shape[-1]:
                raise ValueError(
                    f"OuterDecay has {retain.shape[-1]} numbers for keys and values together, but the weight {name!r} of one head has shape {list(shape)}. "
                    "Use structure.Matrix(), or retention.ChannelDecay()."
                )
            rows, columns = retain.split(list(shape), dim=-1)
            out[name] = rows.unsqueeze(-1) * columns.unsqueeze(-2) * a
        return out
