"""What a model carries through its layers while it reads."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from retain.core.state import MemoryState


@runtime_checkable
class Watcher(Protocol):
    """Whoever wants to see what branches do while a model reads."""

    margin: float
    """By how much gates are told more open than they stand; see ``NeuralMemory.write_cost``."""

    def see(self, number: int, reading: Reading, gate: Tensor, openness: Tensor, surprise: Tensor, said: Tensor) -> None:
        """What branch ``number`` did with each token: how open its gate stood [batch, time, 1], how open those of its memory [batch, time], how surprised
        each head was [batch, time, heads], and what the memory said [batch, time, dim]. It is told once, however often the backward pass runs the branch.
        """
        ...


class Reading:
    """One call of a model: the states before it, which are never changed, and those behind it, put down branch by branch.

    A branch may be run again in the backward pass, and then finds what it found before. It is no dataclass, since those are taken apart on their way through
    modules that lie in shards.

    Args:
        before: The state of each memory; None at the start of a stream.
        mask: True where there is a token [batch, time]; None if everywhere.
        writes: True where a token is written [batch, time]; None if everywhere.
        least: How much a token must surprise a memory for that; None if it is not asked.
        embeddings: Those of the tokens [batch, time, dim], if some memory holds them.
        watcher: Who is told.
    """

    def __init__(
        self,
        before: tuple[MemoryState | None, ...],
        mask: Tensor | None,
        writes: Tensor | None,
        least: float | None,
        embeddings: Tensor | None,
        watcher: Watcher | None,
    ) -> None:
        self.before, self.mask, self.writes, self.least, self.embeddings, self.watcher = before, mask, writes, least, embeddings, watcher
        self.after: dict[int, MemoryState] = {}
        self.said: dict[int, Tensor] = {}

    def states(self) -> tuple[MemoryState, ...]:
        """The states behind the call, in the order of the branches."""
        return tuple(self.after[number] for number in sorted(self.after))
