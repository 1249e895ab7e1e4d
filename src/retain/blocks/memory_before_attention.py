"""The arrangement of titans-pytorch: a memory's answer is added to the stream, and attention reads the sum."""

from __future__ import annotations

from torch import Tensor

from retain.layers import RMS, NeuralMemory
from retain.layers.attention import AbstractAttention

from .mixer import AbstractMixer, persistent_tokens, real_tokens, remember
from .state import BlockState


class MemoryBeforeAttention(AbstractMixer):
    r"""$o = M(x) + \mathrm{SWA}(\mathrm{norm}(x + M(x)))$; the persistent tokens are in attention's sight alone.

    Source: titans-pytorch, which calls it memory as context; in Titans' figure 3 the memory is read into the context instead, and stores what
    attention says. See ``MAC``.

    Args:
        memory: $M$.
        attention: SWA.
        persistent: How many persistent tokens attention sees.

    Examples:
        >>> import torch
        >>> from retain.layers.attention import Attention
        >>> mixer = MemoryBeforeAttention(NeuralMemory(8), Attention(heads=2, window=4).build(8))
        >>> y, state = mixer(torch.randn(1, 9, 8), mixer.start(1), torch.tensor([9]))
        >>> y.shape
        torch.Size([1, 9, 8])
    """

    def __init__(self, memory: NeuralMemory, attention: AbstractAttention, *, persistent: int = 0) -> None:
        super().__init__()
        self.memory, self.attention, self.norm = memory, attention, RMS().build(memory.dim)
        self.persistent = persistent_tokens(persistent, memory.dim)

    def start(self, batch: int) -> BlockState:
        return BlockState(memories={"memory": self.memory.start(batch)}, sights=self.attention.start(batch))

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        m, memory = remember(self.memory, x, state.memories["memory"], real_tokens(x, lengths), write)
        y, sights = self.attention(self.norm(x + m), state.sights, lengths, self.persistent)
        return m + y, BlockState(memories={"memory": memory}, sights=sights)

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        return self.memory.openness(x, margin)
