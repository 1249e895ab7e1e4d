"""What a model keeps of its streams between calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from retain.blocks import BlockState

from .learning import Unfinished


class RetainCache(Cache):
    """The states of a model's blocks: memories, convolution tails, and windows. It does not grow with what was read, but where attention sees all.

    A call replaces ``states`` by new values and never changes the old ones, so a kept reference to them is a snapshot.

    Args:
        states: One for each block; empty before the first call.
        seen: Positions that went by, padding included.
        unfinished: What the levels of its blocks, if they learn, have not yet learnt from.

    Examples:
        >>> RetainCache().get_seq_length()
        0
    """

    def __init__(self, states: tuple[BlockState, ...] = (), seen: int = 0, unfinished: Unfinished | None = None) -> None:
        super().__init__(layers=[])
        self.states, self.seen, self.unfinished = states, seen, unfinished

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        return f"RetainCache({len(self.states)} blocks, {self.seen} positions)"

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions that went by, padding included."""
        return self.seen

    def get_max_cache_shape(self, *_: Any) -> int:
        """There is no limit, which transformers writes as -1."""
        return -1

    @property
    def is_compileable(self) -> bool:
        return False

    @property
    def is_sliding(self) -> list[bool]:
        return [False] * len(self.states)

    @property
    def is_initialized(self) -> bool:
        return bool(self.states)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these rows, as beam search chooses them."""
        self.states = tuple(state[beam_idx] for state in self.states)
        self.unfinished = None if self.unfinished is None else self.unfinished[beam_idx.cpu()]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Go on with each row so many times."""
        if self.states:
            self.reorder_cache(torch.arange(self.batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows only."""
        self.reorder_cache(indices)

    @property
    def batch(self) -> int:
        """Rows; 0 before the first call."""
        if not self.states:
            return 0
        return self.states[0].batch

    def reset(self) -> None:
        """Forget all streams."""
        self.states, self.seen, self.unfinished = (), 0, None

    def detach(self) -> RetainCache:
        """The same numbers, cut off from the graph that made them."""
        unfinished = None if self.unfinished is None else self.unfinished.map(torch.Tensor.detach)
        return RetainCache(tuple(state.detach() for state in self.states), self.seen, unfinished)

    def fork(self) -> RetainCache:
        """A cache that goes on from here by itself; it shares all numbers until one of the two goes on."""
        return RetainCache(self.states, self.seen, self.unfinished)

    def bytes_per_row(self) -> int:
        """The memory that one stream takes."""
        return sum(state.bytes_per_row() for state in self.states) + (0 if self.unfinished is None else self.unfinished.bytes_per_row())

    def crop(self, tokens_to_remove: int) -> None:
        """Memories cannot be rolled back token by token.

        Raises:
            NotImplementedError: Always. Keep a ``fork`` of the cache from before, and go on from that.
        """
        raise NotImplementedError("a memory cannot unlearn its last tokens; keep cache.fork() from before them, and go on from that.")
