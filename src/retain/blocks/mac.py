"""MAC: memory as a context (Titans figure 3a)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.layers import NeuralMemory
from retain.layers.attention import AttentionMap
from retain.layers.window import attend, turned
from retain.numerics import Layout

from .mixer import AbstractMixer, Gating, persistent_tokens, remember
from .state import BlockState

_PAST = "past/"


class MAC(AbstractMixer):
    r"""For each segment $x$: $h = M^*(x W_Q)$, $y = \mathrm{Attn}(P \,\|\, h \,\|\, x)$, $M \leftarrow M(y)$, $o = y \otimes M^*(y)$.

    The memory as it stood before the segment is read into attention's context; what attention says is stored. A token sees the persistent tokens, what was
    retrieved for itself and the tokens before it, and these; and the memory answers it as it stands after it, not after the segment: read literally, the
    equations would show it the rest of its segment. Segments are counted from the start of the stream. Source: Titans equations 21 to 25.

    Args:
        memory: $M$.
        attention: Attn; its ``window`` is the length of a segment.
        persistent: How many tokens $P$ has.
        gating: $\otimes$.

    Raises:
        ValueError: Attention's sight has no end. From ``forward``: the memory's structure lets tokens see each other.

    Examples:
        >>> from retain.layers.attention import Attention
        >>> mac = MAC(NeuralMemory(8), Attention(heads=2, window=4).build(8), persistent=2)
        >>> y, state = mac(torch.randn(1, 9, 8), mac.start(1), torch.tensor([9]))
        >>> y.shape
        torch.Size([1, 9, 8])
    """

    def __init__(self, memory: NeuralMemory, attention: AttentionMap, *, persistent: int = 0, gating: Gating = Gating()) -> None:  # noqa: B008
        super().__init__()
        if attention.spec.window is None:
            raise ValueError("MAC reads in segments as long as attention's window, and got window=None; give the length of a segment.")
        self.memory, self.attention, self.segment = memory, attention, attention.spec.window
        self.persistent = persistent_tokens(persistent, memory.dim)
        self.gate = gating.build(memory.dim)

    def start(self, batch: int) -> BlockState:
        memory, spec = self.memory.start(batch), self.attention.spec
        blank = self.attention.to_q.weight.new_zeros(batch, self.segment, 2, spec.shared, self.attention.head_dim)
        tail = self.memory.projections.tail(batch)
        tensors = {"keys": blank, "values": blank} | ({} if tail is None else {"tail": tail}) | _named(self.memory.weights(memory))
        return BlockState(memories={"memory": memory}, tensors=tensors)

    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        size, memory = self.segment, state.memories["memory"]
        layout = Layout(memory.clock % size, lengths, size)
        cells = torch.arange(layout.cells)
        real = (cells >= layout.offset[:, None]) & (cells < layout.end[:, None])
        grid, first, outputs, tensors = layout.place(x), int(layout.offset.min()), [], state.tensors
        for start in range(0, layout.cells, size):
            stop, low = min(start + size, layout.cells), max(start, first)
            if low >= stop:
                continue
            tensors = self._begin(tensors, memory, real[:, start]) if low == start else tensors
            y, m, memory, tensors = self._segment(grid[:, low:stop], real[:, low:stop], low - start, memory, tensors, write)
            outputs.append(self.gate(y, m))
        whole = torch.cat([x.new_zeros(x.shape[0], first, x.shape[2]), *outputs], dim=1) if outputs else grid
        return layout.take(whole, x.shape[1]), BlockState(memories={"memory": memory}, tensors=tensors)

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        return self.memory.openness(x, margin)

    def _begin(self, tensors: Mapping[str, Tensor], memory: MemoryState, rows: Tensor) -> Mapping[str, Tensor]:
        """The memory that a segment is to be read with is the one that stands now, in the rows that begin one."""
        if not bool(rows.any()):
            return tensors
        fresh = _named(self.memory.weights(memory))
        if bool(rows.all()):
            return {**tensors, **fresh}
        begins = {name: rows.to(w.device).reshape(-1, *([1] * (w.ndim - 1))) for name, w in fresh.items()}
        return {**tensors, **{name: torch.where(begins[name], w, tensors[name]) for name, w in fresh.items()}}

    def _segment(
        self, x: Tensor, real: Tensor, place: int, memory: MemoryState, tensors: Mapping[str, Tensor], write: bool
    ) -> tuple[Tensor, Tensor, MemoryState, Mapping[str, Tensor]]:
        """Attention's and the memory's answers to tokens of one segment [batch, tokens, dim], the first of which has the place ``place`` in it."""
        there = None if bool(real.all()) else real.to(x.device)
        past = {name.removeprefix(_PAST): w for name, w in tensors.items() if name.startswith(_PAST)}
        h, tail = self.memory.retrieve(x, past, tensors.get("tail"), mask=there)
        keys, values, q = self._keys_and_values(x, h, place, tensors, real)
        seen, mine = torch.arange(place + x.shape[1]), torch.arange(place, place + x.shape[1])
        causal = (seen <= mine[:, None]).repeat_interleave(2, dim=1)[None]
        k, v = (part[:, : len(seen)].flatten(1, 2) for part in (keys, values))
        if self.persistent is not None:
            _, k_ahead, v_ahead = self.attention.project(self.persistent.expand(x.shape[0], -1, -1))
            k, v = torch.cat([k_ahead, k], dim=1), torch.cat([v_ahead, v], dim=1)
            causal = torch.cat([causal.new_ones(*causal.shape[:2], len(self.persistent)), causal], dim=-1)
        y = self.attention.to_out(attend(q, k, v, causal).flatten(-2))
        m, memory = remember(self.memory, self.gate.norm_y(y), memory, there, write)
        kept = {"keys": keys, "values": values} | ({} if tail is None else {"tail": tail})
        return y, m, memory, {**tensors, **kept}

    def _keys_and_values(self, x: Tensor, h: Tensor, place: int, tensors: Mapping[str, Tensor], real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The segment's keys and values [batch, places, 2, kv_heads, head_dim], of what was retrieved and of the tokens, and the tokens' queries.

        In attention's context what was retrieved for a token stands a segment before it.
        """
        size, theta = self.segment, self.attention.spec.theta
        q, k, v = self.attention.project(x)
        _, k_past, v_past = self.attention.project(h.to(x.dtype))
        at = torch.full((x.shape[0],), place)
        q, k, k_past = turned(q, at + size, theta), turned(k, at + size, theta), turned(k_past, at, theta)
        new = torch.stack([k_past, k], dim=2), torch.stack([v_past, v], dim=2)
        here, found = real.to(x.device)[:, :, None, None, None], []
        for old, part in zip((tensors["keys"], tensors["values"]), new, strict=True):
            old = old.to(part.dtype)
            merged = torch.where(here, part, old[:, place : place + part.shape[1]])
            found.append(torch.cat([old[:, :place], merged, old[:, place + part.shape[1] :]], dim=1))
        return found[0], found[1], q


def _named(weights: Params) -> dict[str, Tensor]:
    return {_PAST + name: w for name, w in weights.items()}
