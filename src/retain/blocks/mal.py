"""MAL: memory as a layer (Titans figure 5)."""

from __future__ import annotations

from torch import Tensor

from retain.layers import RMS, NeuralMemory
from retain.layers.attention import AbstractAttention

from .mixer import AbstractMixer, persistent_tokens, real_tokens, remember
from .state import BlockState


class MAL(AbstractMixer):
    r"""$\tilde x = P \,\|\, x$, $y = M(\tilde x)$, $o = \mathrm{SWA}(\mathrm{norm}(y))$: attention over a window of what a memory answers.

    Attention always sees what the memory answered to the persistent tokens $P$. Source: Titans equations 29 to 31; the norm between the two is ours.

    Args:
        memory: $M$.
        attention: SWA.
        persistent: How many tokens $P$ has.

    Examples:
        >>> import torch
        >>> from retain.layers.attention import Attention
        >>> mal = MAL(NeuralMemory(8), Attention(heads=2, window=4).build(8), persistent=2)
        >>> y, state = mal(torch.randn(1, 9, 8), mal.start(1), torch.tensor([9]))
        >>> y.shape
        torch.Size([1, 9, 8])
    """

    def __init__(self, memory: NeuralMemory, attention: AbstractAttention, *, persistent: int = 0) -> None:
        super().__init__()
        self.memory, self.attention, self.norm = memory, attention, RMS().build(memory.dim)
        self.persistent = persistent_tokens(persistent, memory.dim)

    def start(self, batch: int) -> BlockState:
        state, tensors = self.memory.start(batch), {}
        if self.persistent is not None:
            y, state, *_ = self.memory(self.persistent.expand(batch, -1, -1), state)
            tensors = {"prefix": self.norm(y)}
        return BlockState(memories={"memory": state}, sights=self.attention.start(batch), tensors=tensors)

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        m, memory = remember(self.memory, x, state.memories["memory"], real_tokens(x, lengths), write)
        y, sights = self.attention(self.norm(m), state.sights, lengths, state.tensors.get("prefix"))
        return y, BlockState(memories={"memory": memory}, sights=sights, tensors=state.tensors)

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        return self.memory.openness(x, margin)
