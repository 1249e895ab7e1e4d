"""What one memory layer does while a model reads, token by token and head by head, as its engine is told it and answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.tokens import StepGates, Tokens
from retain.layers import NeuralMemory

from .draws import Draws, drawn

GATES = ("lr", *(field.name for field in fields(StepGates)), "threshold", "share")


class Recording(AbstractEngine):
    """An engine that runs as another does, and keeps what goes by; put in a layer's place of an engine by ``recorded``.

    Kept of each token are the surprise and the norm of the memory's answer, and its gates as the engine is given them: those of single channels,
    of several associations and of several orders on average; ``retain`` as ``forgetting``, $1 - $ it.

    Args:
        memory: The layer.
        start: Its state before the first token.
        traced: Tokens of which is kept what their reads draw on, by their places.
        span: How far a read is traced back, in tokens at least.
    """

    name = "recording"

    def __init__(self, memory: NeuralMemory, start: MemoryState, traced: Iterable[int] = (), span: int = 0) -> None:
        self.inner, self.rule, self.began, self.span = memory.engine, memory.rule, int(start.clock[0]), span
        self.state, self.traced = start, sorted(set(traced))
        self.draws: list[Draws] = []
        self._seen: dict[str, list[Tensor]] = {}
        self._calls: deque[tuple[int, MemoryState, Tokens]] = deque()
        self._read = 0

    def refusal(self, rule: MemoryRule) -> str | None:
        return self.inner.refusal(rule)

    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        return self.inner.advance(rule, tokens, state, lengths)

    def run(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None = None) -> tuple[Tensor, MemoryState, Tensor]:
        y, after, surprise = self.inner.run(rule, tokens, state, lengths)
        begin = int(state.clock[0]) - self.began
        if begin == self._read and tokens.time:  # else tokens are read again, by a level that learns
            self._keep(begin, tokens, state, y, surprise)
            self._read, self.state = begin + tokens.time, after.detach()
        return y, after, surprise

    def per_token(self) -> dict[str, Tensor]:
        """What was kept, by name, each [heads, time]."""
        return {name: torch.cat(parts).T.contiguous() for name, parts in self._seen.items()}

    def _keep(self, begin: int, tokens: Tokens, state: MemoryState, y: Tensor, surprise: Tensor) -> None:
        found = {"surprise": surprise, "answer": y.norm(dim=-1)}
        for name in GATES:
            gate = getattr(tokens, name)
            if gate is not None:
                mean = gate.flatten(3).mean(-1) if gate.ndim > 3 else gate
                found |= {"forgetting": 1 - mean} if name == "retain" else {name: mean}
        for name, values in found.items():
            self._seen.setdefault(name, []).append(values[0].detach().float().cpu())
        end = begin + tokens.time
        here = [place - begin for place in self.traced if begin <= place < end]
        if self.span:
            self._calls.append((begin, state.detach(), tokens.map(Tensor.detach)))
            while len(self._calls) > 1 and self._calls[1][0] <= end - 1 - self.span:
                self._calls.popleft()
        if here:
            first, before, _ = self._calls[0]
            stream = Tokens.zip(lambda *parts: torch.cat(parts, dim=1), [part for _, _, part in self._calls])
            self.draws += drawn(self.rule, stream, before, [begin - first + place for place in here], first)


@contextmanager
def recorded(recordings: Mapping[int, Recording], memories: Mapping[int, NeuralMemory]) -> Generator[Mapping[int, Recording]]:
    """Within, each memory is run by the recording of its number."""
    try:
        for number, memory in memories.items():
            memory.engine = recordings[number]
        yield recordings
    finally:
        for number, memory in memories.items():
            memory.engine = recordings[number].inner


def norm_and_distance(memory: NeuralMemory, state: MemoryState, start: Params) -> tuple[Tensor, Tensor]:
    """The norm of the weights with which the memory would answer now, and their distance from those at the ``start``; each [heads]."""
    now = memory.weights(state)
    return _norm(now), _norm({name: now[name] - start[name] for name in now})


def _norm(weights: Params) -> Tensor:
    return torch.stack([w[0].flatten(1).double().square().sum(-1) for w in weights.values()]).sum(0).sqrt().float().cpu()
