"""What a model with memories keeps of its streams between calls: the attention cache, and the memories' states."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from retain.core.state import MemoryState

from .writes import AbstractWrites


class MemoryCache(DynamicCache):
    """The attention cache of a pretrained model and the states of its memories.

    The first grows with what is read, the second does not; ``memories_only`` cuts the first off. A call replaces ``memories`` by new values and never changes
    the old ones, so a kept reference to them is a snapshot.

    Args:
        config: That of the model.
        memories: The state of each memory; empty before the first call.
        marks: What rules that choose the tokens to write keep of those before, row by row.

    Examples:
        >>> from transformers import LlamaConfig
        >>> MemoryCache(LlamaConfig(num_hidden_layers=2)).get_seq_length()
        0
    """

    def __init__(
        self, config: PretrainedConfig, memories: tuple[MemoryState, ...] = (), marks: Mapping[AbstractWrites, Tensor] | None = None
    ) -> None:
        super().__init__(config=config)
        self.config, self.memories, self.marks = config, memories, dict(marks or {})

    def __repr__(self) -> str:
        return f"MemoryCache({self.get_seq_length()} positions, {len(self.memories)} memories of {self.rows} rows)"

    @property
    def rows(self) -> int:
        """Rows of the memories; 0 before the first call."""
        return self.memories[0].batch if self.memories else 0

    def memories_only(self) -> MemoryCache:
        """A cache that goes on from the memories alone, as if nothing had been attended to; positions begin at 0 again."""
        return MemoryCache(self.config, self.memories, self.marks)

    def with_memories(self, memories: tuple[MemoryState, ...]) -> MemoryCache:
        """The same, with other states of the memories."""
        new = self.fork()
        new.memories = memories
        return new

    def fork(self) -> MemoryCache:
        """A cache that goes on from here by itself; it shares all numbers until one of the two goes on."""
        new = MemoryCache(self.config, self.memories, self.marks)
        new.layers = [copy.copy(layer) for layer in self.layers]
        return new

    def detach(self) -> MemoryCache:
        """The same numbers, cut off from the graph that made them."""
        new = self.with_memories(tuple(state.detach() for state in self.memories))
        for layer in new.layers:
            if isinstance(layer.keys, Tensor) and isinstance(layer.values, Tensor):
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
        return new

    def reset(self) -> None:
        """Forget all: what was attended to and what the memories learnt."""
        fresh = MemoryCache(self.config)
        self.layers, self.memories, self.marks = fresh.layers, (), {}

    def hash(self) -> str:
        """16 hexadecimal digits that name what the memories hold: the same for equal numbers, on every machine and in every run."""
        return hashlib.sha256("".join(state.hash() for state in self.memories).encode()).hexdigest()[:16]

    def bytes_per_row(self) -> int:
        """The memory that the memories' states take for one stream; it does not depend on what was read."""
        return sum(t.numel() * t.element_size() for state in self.memories for _, t in state.tensors()) // max(1, self.rows)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these rows, as beam search chooses them."""
        super().reorder_cache(beam_idx)  # pyright: ignore[reportArgumentType]
        self._choose(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Go on with each row so many times."""
        if self.get_seq_length():
            super().batch_repeat_interleave(repeats)
        self._choose(torch.arange(self.rows).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows only."""
        if self.get_seq_length():
            super().batch_select_indices(indices)
        self._choose(indices)

    def _choose(self, rows: Tensor) -> None:
        """The memories' part of going on with other rows."""
        self.memories = tuple(state[rows] for state in self.memories)
        self.marks = {rule: kept[rows.to(kept.device)] for rule, kept in self.marks.items()}

    def crop(self, *_: Any, **__: Any) -> None:
        """Memories cannot be rolled back token by token.

        Raises:
            NotImplementedError: Always. Keep a ``fork`` of the cache from before, and go on from that.
        """
        raise NotImplementedError(
            "a memory cannot unlearn its last tokens, which assisted and speculative decoding ask for. Cure: decode without an assistant, or keep "
            "cache.fork() from before them and go on from that."
        )
