"""Reading from boundary to boundary, so that what is written can depend on how much it surprises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from retain.core.state import MemoryState
from retain.layers.neural_memory import NeuralMemory


def read_surprised(
    memory: NeuralMemory,
    asked: Tensor,
    stored: tuple[Tensor, Tensor],
    state: MemoryState | None,
    *,
    real: Tensor | None,
    writes: Tensor | None,
    least: float,
) -> tuple[Tensor, MemoryState, Tensor]:
    """What a memory says, its state behind, and the surprise, if it writes only tokens that surprise it by ``least`` on average over its heads.

    Between two boundaries gradients are taken at the same weights, so each stretch is read once to measure and once to write.

    Args:
        memory: The memory.
        asked: What it is asked by [batch, time, dim].
        stored: What keys and gates, and what values are made of.
        state: Of each row; rows may stand at different places.
        real: True where there is a token [batch, time]; None if everywhere.
        writes: True where a token may be written; None if everywhere.
        least: The least surprise.
    """
    now = memory.start(len(asked)) if state is None else state
    real = torch.ones(asked.shape[:2], dtype=torch.bool, device=asked.device) if real is None else real
    said, surprise = torch.zeros_like(asked), asked.new_zeros(*asked.shape[:2], memory.heads)
    for columns, part in _stretches(real, now.clock, memory.rule.update_every):
        x, store = asked[:, columns], (stored[0][:, columns], stored[1][:, columns])
        _, _, measured = memory(x, now, store=store, mask=part, write=False, return_surprise=True)
        chosen = measured.mean(-1) >= least
        if writes is not None:
            chosen = chosen & writes[:, columns]
        answer, now, measured = memory(x, now, store=store, mask=part, write_mask=chosen, return_surprise=True)
        said, surprise = (_laid(whole, columns, new, part) for whole, new in ((said, answer), (surprise, measured)))
    return said, now, surprise


def _stretches(real: Tensor, clock: Tensor, every: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Columns, and which of their tokens each row reads next: up to its next boundary, and no further."""
    if not every:
        yield slice(None), real
        return
    there = real.cpu()
    segment = (clock[:, None] + there.cumsum(1) - 1) // every - (clock[:, None] // every)
    for number in range(int(segment[there].max()) + 1 if bool(there.any()) else 0):
        part = there & (segment == number)
        held = part.any(0).nonzero().flatten()
        if len(held):
            columns = slice(int(held[0]), int(held[-1]) + 1)
            yield columns, part[:, columns].to(real.device)


def _laid(whole: Tensor, columns: slice, new: Tensor, part: Tensor) -> Tensor:
    """``whole`` with what is new laid into it where ``part`` holds."""
    mixed = torch.where(part.unsqueeze(-1), new.to(whole.dtype), whole[:, columns])
    return torch.cat([whole[:, : columns.start or 0], mixed, whole[:, (columns.start or 0) + mixed.shape[1] :]], dim=1)
