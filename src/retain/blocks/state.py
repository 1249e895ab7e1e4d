"""What a block keeps of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.state import MemoryState
from retain.layers.window import Sight

LEVELS = "levels/"
"""Under this name a state keeps, among its tensors, those of the levels that learn; see ``ContinuumMemory``."""


@dataclass(frozen=True, kw_only=True)
class BlockState:
    """Everything that a block goes on from, row by row: a value that goes in and comes out.

    Args:
        memories: States of its memories, by name.
        sights: What its attention keeps.
        tensors: What else it keeps, each [batch, ...].

    Examples:
        >>> state = BlockState(tensors={"segment": torch.zeros(3, 4)})
        >>> state[[0, 0]].tensors["segment"].shape
        torch.Size([2, 4])
    """

    memories: Mapping[str, MemoryState] = field(default_factory=dict)
    sights: tuple[Sight, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Rows; 0 if the block keeps nothing."""
        return next((tensor.shape[0] for _, tensor in self.named_tensors()), 0)

    def map(self, function: Callable[[Tensor], Tensor]) -> BlockState:
        """``function`` applied to every tensor but the host's counters."""
        return BlockState(
            memories={name: memory.map(function) for name, memory in self.memories.items()},
            sights=tuple(sight.map(function) for sight in self.sights),
            tensors={name: function(tensor) for name, tensor in self.tensors.items()},
        )

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state with its path."""
        for name, memory in self.memories.items():
            yield from ((f"memories/{name}/{path}", tensor) for path, tensor in memory.tensors())
        for i, sight in enumerate(self.sights):
            yield from ((f"sights/{i}/{path}", tensor) for path, tensor in zip(sight._fields, sight, strict=True))
        yield from ((f"tensors/{name}", tensor) for name, tensor in self.tensors.items())

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> BlockState:
        """The state with these tensors by their paths: the inverse of ``named_tensors``."""
        memories: dict[str, dict[str, Tensor]] = {}
        sights: dict[int, dict[str, Tensor]] = {}
        tensors: dict[str, Tensor] = {}
        for path, tensor in named.items():
            kind, rest = path.split("/", 1)
            if kind == "tensors":
                tensors[rest] = tensor
                continue
            name, part = rest.split("/", 1)
            (memories.setdefault(name, {}) if kind == "memories" else sights.setdefault(int(name), {}))[part] = tensor
        return cls(
            memories={name: MemoryState.of(parts) for name, parts in memories.items()},
            sights=tuple(Sight(**sights[i]) for i in sorted(sights)),
            tensors=tensors,
        )

    def detach(self) -> BlockState:
        """The same numbers, cut off from the graph that made them."""
        return self.map(torch.Tensor.detach)

    def __getitem__(self, rows: Tensor | list[int]) -> BlockState:
        """The rows chosen by a list of indices, repeats allowed, as in beam search."""
        index = torch.as_tensor(rows)
        return BlockState(
            memories={name: memory[index] for name, memory in self.memories.items()},
            sights=tuple(Sight(*(t[index.to(t.device)] for t in sight)) for sight in self.sights),
            tensors={name: tensor[index.to(tensor.device)] for name, tensor in self.tensors.items()},
        )

    @staticmethod
    def where(rows: Tensor, yes: BlockState, no: BlockState) -> BlockState:
        """For each row, ``yes`` where the mask ``rows`` [batch] holds and ``no`` elsewhere."""

        def pick(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(rows.to(a.device).reshape(-1, *([1] * (a.ndim - 1))), a, b)

        return BlockState(
            memories={name: MemoryState.where(rows, memory, no.memories[name]) for name, memory in yes.memories.items()},
            sights=tuple(
                Sight(*(pick(a, b) for a, b in zip(*_of_one_length(a, b), strict=True))) for a, b in zip(yes.sights, no.sights, strict=True)
            ),
            tensors={name: pick(tensor, no.tensors[name]) for name, tensor in yes.tensors.items()},
        )

    def bytes_per_row(self) -> int:
        """The memory that one stream's state takes."""
        held = [*self.tensors.values(), *(t for sight in self.sights for t in sight)]
        held += [tensor for memory in self.memories.values() for _, tensor in memory.tensors()]
        places = {(t.untyped_storage().data_ptr(), t.storage_offset(), t.shape): t.numel() * t.element_size() for t in held if t.numel()}
        return sum(places.values()) // max(1, held[0].shape[0])


def _of_one_length(a: Sight, b: Sight) -> tuple[Sight, Sight]:
    """Both with as many places as the one that keeps more; the others are blank, and before the stream."""
    most = max(a.k.shape[1], b.k.shape[1])
    first, second = (
        sight._replace(**{name: F.pad(part, (0, 0, 0, 0, most - part.shape[1], 0)) for name, part in (("k", sight.k), ("v", sight.v))})
        for sight in (a, b)
    )
    return first, second
