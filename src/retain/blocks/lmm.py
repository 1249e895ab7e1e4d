"""LMM: a memory by itself (Titans section 4.3, last paragraph)."""

from __future__ import annotations

from torch import Tensor

from retain.layers import NeuralMemory, SelfModifyingMemory

from .mixer import AbstractMixer, persistent_tokens, real_tokens, remember
from .state import BlockState


class LMM(AbstractMixer):
    r"""$y = M(P \,\|\, x)$ without the rows of the persistent tokens $P$: a sequence model that has no attention at all.

    With a ``SelfModifyingMemory`` it is the first half of Hope. Source: Titans section 4.3 and equation 19; Nested Learning equations 94 to 96.

    Args:
        memory: The memory.
        persistent: How many persistent tokens it reads before every stream.

    Examples:
        >>> import torch
        >>> lmm = LMM(NeuralMemory(8), persistent=2)
        >>> y, state = lmm(torch.randn(1, 5, 8), lmm.start(1), torch.tensor([5]))
        >>> state.memories["memory"].clock
        tensor([7])
    """

    def __init__(self, memory: NeuralMemory | SelfModifyingMemory, *, persistent: int = 0) -> None:
        super().__init__()
        self.memory, self.persistent = memory, persistent_tokens(persistent, memory.dim)

    def start(self, batch: int) -> BlockState:
        state = self.memory.start(batch)
        if self.persistent is not None:
            _, state, *_ = self.memory(self.persistent.expand(batch, -1, -1), state)
        return BlockState(memories={"memory": state})

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        y, after = remember(self.memory, x, state.memories["memory"], real_tokens(x, lengths), write)
        return y, BlockState(memories={"memory": after})

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        return self.memory.openness(x, margin) if isinstance(self.memory, NeuralMemory) else super().openness(x, margin)
