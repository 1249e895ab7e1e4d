"""A memory beside the attention of one decoder layer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.layers import PatientMemory
from retain.layers.described import memory_from

from .config import MemoryConfig
from .reading import Reading
from .stretches import read_surprised

LIKE_A_SINK = 0.9
"""From which cosine on the features of a token count as those of an attention sink (SmolLM2-135M, layers 20 and 26: sinks 1.00, others up to 0.35)."""


class MemoryBranch(nn.Module):
    """The slow weights of one branch: a memory, a gate, and the map that refines its queries.

    Args:
        dim: Width of the model.
        config: What it is made of; see there for the equation.
        number: Which of the branches this is; the first has no memory before it to refine its queries by.
    """

    def __init__(self, dim: int, config: MemoryConfig, number: int) -> None:
        super().__init__()
        self.number, self.values = number, config.values
        self.memory = memory_from(config.memory, dim, PatientMemory)
        self.strength = nn.Parameter(torch.tensor([float(config.strength)]))  # not a scalar, which could not lie in shards
        self.to_gate = nn.Linear(dim, 1)
        nn.init.zeros_(self.to_gate.weight)
        nn.init.zeros_(self.to_gate.bias)
        self.refine = Refine(dim, config.refine) if config.refine and number else None
        self.features = Centring(dim) if config.features == "centred" else None

    def forward(self, x: Tensor, attended: Tensor, reading: Reading) -> Tensor:
        """The mixture of what attention and memory say [batch, time, dim]; the memory's state is put down in ``reading``.

        Args:
            x: The layer's normalised input [batch, time, dim].
            attended: What attention said [batch, time, dim].
            reading: The call.
        """
        half = attended.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(x.device.type, attended.dtype) if half else nullcontext():
            said, gate = self._said(x, reading)
        said, gate = said.to(attended.dtype), gate.to(attended.dtype)
        return torch.lerp(attended, said, gate)

    def _said(self, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
        own = self.to_gate.weight.dtype
        gate = torch.tanh(self.strength) * torch.sigmoid(self.to_gate(x.to(own)))
        stored = x.to(own) if self.features is None else self.features(x.to(own))
        asked = stored if self.refine is None else stored + self.refine(reading.said[self.number - 1].to(own))
        values = stored
        if self.values == "embedding":
            assert reading.embeddings is not None
            values = F.normalize(reading.embeddings.to(own), dim=-1) * self.memory.heads**0.5
        first, watcher, before = self.number not in reading.after, reading.watcher, reading.before[self.number]
        if reading.least is not None:
            given: dict[str, Any] = {"real": reading.mask, "writes": reading.writes, "least": reading.least}
            said, after, *surprise = read_surprised(self.memory, asked, (stored, values), before, **given)
        else:
            store = None if asked is stored and values is stored else (stored, values)
            given = {"store": store, "mask": reading.mask, "write_mask": reading.writes, "return_surprise": watcher is not None}
            said, after, *surprise = self.memory(asked, before, **given)
        reading.after[self.number], reading.said[self.number] = after, said
        if watcher is not None:
            openness = self.memory.openness(stored, watcher.margin)  # again in the backward pass, which must do what the forward pass did
            if first:
                watcher.see(self.number, reading, gate, openness, surprise[0], said)
        return said, gate


class Refine(nn.Module):
    """What a memory said, as a change of the next one's query: a map of low rank that starts at zero."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, said: Tensor) -> Tensor:
        return self.up(self.down(said))


class Centring(nn.Module):
    """Features less their mean, in units of their spread; zero for attention sinks. All three are measured by ``calibrate``, and not learnt.

    A sink, as the first token often is, can be told by its features from its direction alone, since the norm before them takes its size.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.sink: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("sink", torch.zeros(dim))  # of length one, or zero if there is none

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.spread
        return x * (F.normalize(x, dim=-1) @ self.sink < LIKE_A_SINK).unsqueeze(-1)
