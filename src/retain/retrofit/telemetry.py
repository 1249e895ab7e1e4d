"""What memories do while a model reads: how open their gates stand, how surprised they are, how far they have come."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from retain.core.state import MemoryState

from .attach import attentions_of, branches_of, session_of
from .branch import MemoryBranch
from .reading import Reading

SHUT, WIDE = 1e-3, 0.999
"""Between these a gate is neither shut nor wide open."""
ENOUGH = 256
"""Tokens after which a gate that has always been shut, or wide open, is worth a warning."""
COLUMNS = ("gate", "shut", "writes", "surprise", "said", "norm", "distance")


class CollapsedGate(UserWarning):
    """A branch's gate stands shut, or wide open, for all that is read: it has stopped choosing."""


@dataclass
class _Sums:
    """Of one branch, over tokens."""

    tokens: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    state: MemoryState | None = None
    graph: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # how open the gates of a memory stood, and which of the tokens were real
    strength: Tensor | None = None  # as it was at work; elsewhere it may lie in shards

    def add(self, name: str, values: Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0) + values.sum()

    def mean(self, name: str) -> Tensor:
        return self.sums[name] / max(1, self.tokens)


class Telemetry:
    """What has been seen of each branch so far; ``watch`` makes one.

    Args:
        model: The model that is watched.
        keep_graph: Whether gradients flow through the write cost.
        margin: By how much learning and forgetting gates are told more open than they stand; see ``NeuralMemory.write_cost``.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> with torch.no_grad(), watch(model) as seen:
        ...     _ = model(torch.arange(6)[None])
        >>> isinstance(seen, Telemetry), len(str(seen.table()).splitlines()) > 1
        (True, True)
    """

    def __init__(self, model: nn.Module, *, keep_graph: bool = False, margin: float = 0.0) -> None:
        self.names, self.branches = tuple(attentions_of(model)), branches_of(model)
        self.keep_graph, self.margin = keep_graph, margin
        self._seen = [_Sums() for _ in self.branches]

    def see(self, number: int, reading: Reading, gate: Tensor, openness: Tensor, surprise: Tensor, said: Tensor) -> None:
        """What a branch did, as ``Watcher`` has it."""
        real = reading.mask if reading.mask is not None else torch.ones(gate.shape[:2], dtype=torch.bool, device=gate.device)
        seen, exact = self._seen[number], torch.float64
        seen.tokens += int(real.sum())
        if self.keep_graph:  # nothing is done to it here: a layer that is run again in the backward pass must save the same tensors
            seen.graph.append((openness, real))
        with torch.no_grad():
            seen.add("writes", openness.detach()[real].to(exact))
            gate, seen.strength = gate.detach()[real].to(exact), self.branches[number].strength.detach().to(exact, copy=True)
            seen.add("gate", gate)
            seen.add("shut", (gate.abs() < SHUT).to(exact))
            seen.add("share", gate / torch.tanh(seen.strength))
            seen.add("surprise", surprise.detach()[real].to(exact).mean(-1))
            seen.add("said", said.detach()[real].to(exact).square().mean(-1).sqrt())
        seen.state = reading.after[number].detach()

    def write_cost(self) -> Tensor:
        """How open the learning and forgetting gates of all memories stood on the tokens read, from 0 to 2 on average: to add to the loss.

        Raises:
            ValueError: Nothing has been read.
        """
        if not any(seen.tokens for seen in self._seen):
            raise ValueError("nothing was read while the model was watched. Cure: call it within `with watch(model) as seen:`.")
        read = [seen for seen in self._seen if seen.tokens]
        sums = [
            torch.stack([openness[real].sum() for openness, real in seen.graph]).sum() if self.keep_graph else seen.sums["writes"] for seen in read
        ]
        return torch.stack([total.to(sums[0]) / seen.tokens for total, seen in zip(sums, read, strict=True)]).mean()

    def report(self) -> list[dict[str, Any]]:
        """One row for each branch that has read something, of plain numbers, means over tokens unless said otherwise.

        ``layer`` by name; ``tokens`` read; ``gate``, how open it stood, and ``shut``, the share of tokens for which it was open by less than a thousandth;
        ``writes``, how open the learning and forgetting gates of the memory stood, from 0 to 2; ``surprise``; ``said``, the root mean square of the
        memory's answer; ``norm`` of the memory's weights and their ``distance`` from the start, root mean square over rows and heads, as they stood in the end.
        """
        rows = []
        for name, branch, seen in zip(self.names, self.branches, self._seen, strict=True):
            if seen.tokens and seen.state is not None:
                means = {column: float(seen.mean(column)) for column in COLUMNS[:5]}
                rows.append({"layer": name, "tokens": seen.tokens, **means, **_reach(branch, seen.state)})
        return rows

    def table(self) -> str:
        """The report as text."""
        rows = [["layer", "tokens", *COLUMNS]]
        rows += [[row["layer"], str(row["tokens"]), *(f"{row[column]:.4g}" for column in COLUMNS)] for row in self.report()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]) for row in rows)

    def collapsed(self) -> Sequence[str]:
        """The branches that could speak, as their strength is not 0, but whose gate was always shut, or wide open; after enough tokens."""
        with torch.no_grad():
            judged = [(name, seen) for name, seen in zip(self.names, self._seen, strict=True) if seen.strength is not None and seen.tokens >= ENOUGH]
            return [name for name, seen in judged if bool(seen.strength) and not SHUT <= float(seen.mean("share")) <= WIDE]


@contextmanager
def watch(model: nn.Module, *, keep_graph: bool = False, margin: float = 0.0) -> Generator[Telemetry]:
    """Within, what the memories do is summed up, padding left out; each call counts once, however often the backward pass runs a layer again.

    Args:
        model: A model with memories, wrapped or not.
        keep_graph: Whether gradients flow through ``write_cost``, for a trainer to add it to the loss.
        margin: See ``NeuralMemory.write_cost``.

    Yields:
        What has been seen so far.

    Raises:
        ValueError: The model has no memories.

    Warns:
        CollapsedGate: In the end, of each gate whose curve stood below 0.001, or above 0.999, on average over at least 256 tokens.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(layers=(1,), memory={"heads": 2}))
        >>> with watch(model) as seen:
        ...     _ = model(torch.arange(6)[None])
        >>> [(row["layer"], row["tokens"], row["gate"], row["shut"]) for row in seen.report()]
        [('layers.1.self_attn', 6, 0.0, 1.0)]
    """
    session, seen = session_of(model), Telemetry(model, keep_graph=keep_graph, margin=margin)
    kept, session.watcher = session.watcher, seen
    try:
        yield seen
    finally:
        session.watcher = kept
    for name in seen.collapsed():
        warnings.warn(
            f"the gate of {name} no longer chooses: it stood shut, or wide open, for all that was read. Cure: a start of its bias nearer to 0, a lower "
            "learning rate for it, or text in training that the memory helps with.",
            CollapsedGate,
            stacklevel=3,
        )


def _reach(branch: MemoryBranch, state: MemoryState) -> dict[str, float]:
    with torch.no_grad():
        start = branch.memory.start(state.batch)
        return {
            name: float(torch.stack([part.square().mean() for part in parts.values()]).sum().sqrt())
            for name, parts in (("norm", state.norms()), ("distance", state.distance(start)))
        }
