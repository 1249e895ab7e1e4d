"""The model of the demonstration: bytes in, bytes out, and no attention. All that lasts longer than a few bytes is a memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain import Gates, MemoryRule, MemoryState, NeuralMemory, Output, Projections, bias, learner, retention, structure
from retain.layers.short_conv import ShortConv


def shallow_rule(update_every: int = 32) -> MemoryRule:
    """Titans' memory with momentum and forgetting, as a plain two-layer perceptron."""
    return MemoryRule(
        structure=structure.MLP(depth=2, expansion=2),
        bias=bias.L2(),
        retention=retention.Decay(),
        learner=learner.Momentum(),
        update_every=update_every,
    )


@dataclass(frozen=True, kw_only=True)
class ByteModelConfig:
    """Sizes of a ``ByteModel``.

    Args:
        dim: Width of the stream.
        windows: For each of the blocks before the first memory, how many bytes its convolution sees.
        memories: Memory layers, one above the other.
        heads: Memories side by side in each layer.
        reach: How many bytes the convolution behind a memory's queries, keys and values sees.
        rule: What a memory is and how it learns.
        gates: How bytes become rates of learning and forgetting.

    Examples:
        >>> ByteModelConfig(dim=32).windows
        (8, 16)
    """

    dim: int = 64
    windows: tuple[int, ...] = (8, 16)
    memories: int = 1
    heads: int = 1
    reach: int = 4
    rule: MemoryRule = field(default_factory=shallow_rule)
    gates: Gates = field(default_factory=Gates)


@dataclass(frozen=True)
class ByteModelState:
    """What a stream leaves behind: the last few bytes that the convolutions see, and the memories."""

    tails: tuple[Tensor, ...]
    memories: tuple[MemoryState, ...]

    def detach(self) -> ByteModelState:
        """The same numbers, cut off from the graph that made them."""
        return ByteModelState(tuple(t.detach() for t in self.tails), tuple(m.detach() for m in self.memories))

    def bytes_per_row(self) -> int:
        """The memory that one stream's state takes."""
        held = [*self.tails, *(tensor for memory in self.memories for _, tensor in memory.tensors())]
        places = {(t.untyped_storage().data_ptr(), t.storage_offset(), t.shape): t.numel() * t.element_size() for t in held if t.numel()}
        return sum(places.values()) // self.memories[0].batch


class Nearby(nn.Module):
    """A block that sees the last few bytes: a causal convolution, then a perceptron, added to the stream. It starts close to nothing."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim)
        self.conv = ShortConv(dim, window)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        with torch.no_grad():
            self.conv.weight[1:].normal_(0, 0.3)
            self.down.weight.mul_(0.1)
            self.down.bias.zero_()

    def forward(self, x: Tensor, tail: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The stream with this block's share added, and the tail of the convolution."""
        y, after = self.conv(self.norm(x), tail, lengths)
        return x + self.down(F.gelu(self.up(y))), after


class Remembering(nn.Module):
    """A block that holds a memory: the memory layer, then a perceptron, each added to the stream."""

    def __init__(self, config: ByteModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm, self.norm_up = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.memory = NeuralMemory(
            dim,
            heads=config.heads,
            rule=config.rule,
            gates=config.gates,
            projections=Projections(conv=config.reach, start="recall"),
            output=Output(gate=None),
        )
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, state: MemoryState | None, write_mask: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        """The stream with this block's shares added, the memory's state, and how open the memory's gates stood."""
        seen = self.norm(x)
        y, after = self.memory(seen, state, write_mask=write_mask)
        x = x + y
        return x + self.down(F.gelu(self.up(self.norm_up(x)))), after, self.memory.write_cost(seen)


class ByteModel(nn.Module):
    """Bytes [batch, time] to the stream behind the last block [batch, time, dim]; ``logits`` turns that into the next byte.

    Args:
        config: Its sizes.

    Examples:
        >>> model = ByteModel(ByteModelConfig(dim=16))
        >>> hidden, state, cost = model(torch.randint(256, (1, 50)))
        >>> hidden, state, cost = model(torch.randint(256, (1, 7)), state)
        >>> model.logits(hidden[:, -1]).shape
        torch.Size([1, 256])
    """

    def __init__(self, config: ByteModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(256, config.dim)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.nearby = nn.ModuleList(Nearby(config.dim, window) for window in config.windows)
        self.remembering = nn.ModuleList(Remembering(config) for _ in range(config.memories))
        self.norm = nn.RMSNorm(config.dim)
        self.head = nn.Linear(config.dim, 256)

    def forward(self, tokens: Tensor, state: ByteModelState | None = None, write: bool = True) -> tuple[Tensor, ByteModelState, Tensor]:
        """Read a stretch of each row's stream from where ``state`` stopped.

        Args:
            tokens: Bytes [batch, time], as integers.
            state: What the stretch before left behind; None at the start.
            write: False forbids the memories to learn; they still answer, and everything else goes on as usual.

        Returns:
            The stream [batch, time, dim], the state, and the mean write cost of the memories, a scalar.
        """
        lengths = torch.full((tokens.shape[0],), tokens.shape[1])
        write_mask = None if write else torch.zeros(tokens.shape, dtype=torch.bool)
        x, tails, memories = self.embedding(tokens), [], []
        cost = x.new_zeros(())
        for i, block in enumerate(self.nearby):
            x, tail = block(x, state.tails[i] if state else None, lengths)
            tails.append(tail)
        for i, block in enumerate(self.remembering):
            x, memory, opened = block(x, state.memories[i] if state else None, write_mask)
            memories.append(memory)
            cost = cost + opened / len(self.remembering)
        return x, ByteModelState(tuple(tails), tuple(memories)), cost

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the 256 bytes that may come next [..., 256]."""
        return self.head(self.norm(hidden))

    def gates_open(self, tokens: Tensor) -> Tensor:
        """How far the learning gate of the first memory stands open at each byte, from 0 to 1 [batch, time].

        The bytes are read from the start of a stream: the gate sees no further back than the convolutions do.
        """
        return F.hardsigmoid(self._gate_logits(tokens)[0])

    def gates_ajar(self, tokens: Tensor, margin: float) -> Tensor:
        """How far the first memory's learning and forgetting gates are from being shut with a margin to spare, on average: a scalar.

        Added to the outer loss on text that holds nothing to remember, it shuts the gates there, and so firmly that text never seen finds them shut.
        The gates' curve is ``"hard"``: shut is an exact zero. This is ours, not the papers'.
        """
        learning, forgetting = self._gate_logits(tokens)
        return (F.relu(learning + 3 + margin).mean() + F.relu(forgetting + 3 + margin).mean()) / 3

    def _gate_logits(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.full((tokens.shape[0],), tokens.shape[1])
        x = self.embedding(tokens)
        for block in self.nearby:
            x, _ = block(x, None, lengths)
        first = self.remembering[0]
        assert isinstance(first, Remembering)
        gates = first.memory.gates
        z = F.linear(first.norm(x), gates.weight, gates.bias)
        return z[..., 0], z[..., -1]
