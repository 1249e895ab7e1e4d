"""MAG: memory as a gate (Titans figure 4)."""

from __future__ import annotations

from torch import Tensor

from retain.layers import NeuralMemory
from retain.layers.attention import AbstractAttention

from .mixer import AbstractMixer, Gating, persistent_tokens, real_tokens, remember
from .state import BlockState


class MAG(AbstractMixer):
    r"""$\tilde x = P \,\|\, x$, $y = \mathrm{SWA}(\tilde x)$, $o = y \otimes M(\tilde x)$: attention over a window, gated by a memory of everything.

    The persistent tokens $P$ stay in attention's sight, and the memory reads them before every stream; their own rows are dropped. Source: Titans
    equations 26 to 28.

    Args:
        memory: $M$.
        attention: SWA.
        persistent: How many tokens $P$ has.
        gating: $\otimes$.

    Examples:
        >>> import torch
        >>> from retain.layers.attention import Attention
        >>> mag = MAG(NeuralMemory(8), Attention(heads=2, window=4).build(8), persistent=2)
        >>> y, state = mag(torch.randn(1, 9, 8), mag.start(1), torch.tensor([9]))
        >>> y.shape
        torch.Size([1, 9, 8])
    """

    def __init__(self, memory: NeuralMemory, attention: AbstractAttention, *, persistent: int = 0, gating: Gating = Gating()) -> None:  # noqa: B008
        super().__init__()
        self.memory, self.attention = memory, attention
        self.persistent = persistent_tokens(persistent, memory.dim)
        self.gate = gating.build(memory.dim)

    def start(self, batch: int) -> BlockState:
        state = self.memory.start(batch)
        if self.persistent is not None:
            _, state, *_ = self.memory(self.persistent.expand(batch, -1, -1), state)
        return BlockState(memories={"memory": state}, sights=self.attention.start(batch))

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        y, sights = self.attention(x, state.sights, lengths, self.persistent)
        m, memory = remember(self.memory, x, state.memories["memory"], real_tokens(x, lengths), write)
        return self.gate(y, m), BlockState(memories={"memory": memory}, sights=sights)

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        return self.memory.openness(x, margin)
