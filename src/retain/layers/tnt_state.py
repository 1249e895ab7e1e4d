"""What a TNT memory leaves behind: the states of its memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.state import MemoryState


@dataclass(frozen=True, kw_only=True)
class TNTState:
    """Everything that a ``TNTMemory`` goes on from, row by row: a value that goes in and comes out.

    The clock of the global memory counts the tokens of the stream, those of the others the tokens of the shard under way.

    Args:
        global_: State of the global memory, with what the layer remembers beside it.
        locals: States of the local memories.
        projections: For each local memory, the sum of its shard's key directions, a matrix memory.

    Examples:
        >>> from retain.layers import Local, TNTMemory
        >>> memory = TNTMemory(8, locals=(Local(chunk=2, shard=4),))
        >>> _, state = memory(torch.randn(3, 10, 8))
        >>> state.clock.tolist(), state.locals[0].clock.tolist(), state[1:].batch
        ([10, 10, 10], [2, 2, 2], 2)
        >>> again = TNTState.of(dict(state.named_tensors()))
        >>> all(torch.equal(a, b) for (_, a), (_, b) in zip(state.named_tensors(), again.named_tensors()))
        True
    """

    global_: MemoryState
    locals: tuple[MemoryState, ...]
    projections: tuple[MemoryState, ...]

    @property
    def batch(self) -> int:
        return self.global_.batch

    @property
    def clock(self) -> Tensor:
        """Tokens read by each row since its stream began [batch], on the host."""
        return self.global_.clock

    def parts(self) -> dict[str, MemoryState]:
        """The states of the memories by name: ``global``, ``local0``, ``projection0`` and so on."""
        each = (("local", self.locals), ("projection", self.projections))
        return {"global": self.global_} | {f"{kind}{i}": part for kind, parts in each for i, part in enumerate(parts)}

    @classmethod
    def of_parts(cls, parts: Mapping[str, MemoryState]) -> TNTState:
        """The inverse of ``parts``."""
        count = len(parts) // 2
        inner, sums = (tuple(parts[f"{kind}{i}"] for i in range(count)) for kind in ("local", "projection"))
        return cls(global_=parts["global"], locals=inner, projections=sums)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state with its path, in a fixed order."""
        for name, part in self.parts().items():
            yield from ((f"{name}/{path}", tensor) for path, tensor in part.tensors())

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> TNTState:
        """The state with these tensors by their paths: the inverse of ``named_tensors``."""
        parts: dict[str, dict[str, Tensor]] = {}
        for path, tensor in named.items():
            name, rest = path.split("/", 1)
            parts.setdefault(name, {})[rest] = tensor
        return cls.of_parts({name: MemoryState.of(tensors) for name, tensors in parts.items()})

    def map(self, function: Callable[[Tensor], Tensor]) -> TNTState:
        """``function`` applied to every tensor but the host's counters."""
        return self._each(lambda part: part.map(function))

    def detach(self) -> TNTState:
        """The same numbers, cut off from the graph that made them."""
        return self._each(MemoryState.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TNTState:
        """The state on another device, or in another floating type."""
        return self._each(lambda part: part.to(device, dtype))

    def __getitem__(self, rows: slice | Tensor | list[int]) -> TNTState:
        """The rows chosen by a slice, a list of indices (repeats allowed, as in beam search) or a mask."""
        return self._each(lambda part: part[rows])

    @staticmethod
    def where(rows: Tensor, yes: TNTState, no: TNTState) -> TNTState:
        """For each row, ``yes`` where the mask ``rows`` [batch] holds and ``no`` elsewhere."""
        others = no.parts()
        return TNTState.of_parts({name: MemoryState.where(rows, part, others[name]) for name, part in yes.parts().items()})

    @staticmethod
    def cat(states: list[TNTState]) -> TNTState:
        """The rows of several states, one below the other."""
        held = [state.parts() for state in states]
        return TNTState.of_parts({name: MemoryState.cat([parts[name] for parts in held]) for name in held[0]})

    def _each(self, function: Callable[[MemoryState], MemoryState]) -> TNTState:
        return TNTState.of_parts({name: function(part) for name, part in self.parts().items()})
