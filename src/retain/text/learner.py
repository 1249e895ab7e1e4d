"""A memory that learns: one state of a rule, moved by a step for each pair of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .calibration import Calibration
from .config import MemoryConfig
from .patterns import EXCITED, SAME, Patterns
from .rules import DEFAULT
from .signs import signs
from .stepped import Stepped
from .titans import Titans
from .weights import Weights

ASKED_EVERY = 4  # observations between two at which the memory is asked what it should, and what it cannot, know
MANY = 2048  # patterns by which it is asked that much more seldom: a recall compares an answer with all of them
MOST_ACTIVATED = 8


@dataclass(frozen=True)
class Step:
    """What one observation did.

    Args:
        raw: The memory's error at the text, before it was written; see ``Asked``.
        surprise: That error between 0 and 1.
        weight_delta: The length of the change of all weights.
        activated: The earlier texts whose keys the text's key excites, the nearest first.
    """

    raw: float
    surprise: float
    weight_delta: float
    activated: list[int]


class Learner:
    """The weights of a memory, its calibration, and the embeddings of what it has read.

    Args:
        config: The size of the memory, and how it learns.
        width: Numbers in an embedding.
    """

    def __init__(self, config: MemoryConfig, width: int) -> None:
        self.config, self.width, self.count = config, width, 0
        self.calibration, self.patterns = Calibration(), Patterns(width)
        self._map = signs("map", config.seed, width, config.dim - 1)
        self.weights: Weights = Titans(config) if config.preset == DEFAULT else Stepped(config)

    def channels(self, embedding: bytes) -> Tensor:
        """A stored embedding as a vector of length one, with one channel more that is zero [dim]."""
        mixed = (_grid(embedding).float() @ self._map).double()  # whole numbers below 2^24 for up to 1000 channels: exact in any order
        unit = mixed / math.sqrt(int((mixed * mixed).sum()))
        return torch.cat([unit, unit.new_zeros(1)]).float().to(self.config.device)

    def key(self, embedding: bytes) -> Tensor:
        """What the memory is asked by [dim]."""
        return self.weights.key(self.channels(embedding))

    def answer(self, key: Tensor) -> Tensor:
        """What the memory answers to a key as it stands [dim]."""
        return self.weights.answer(key)

    def error(self, key: bytes, value: bytes) -> float:
        """How far the answer to a key is from a value; see ``Asked``."""
        return self.weights.ask(self.key(key), self.channels(value)).raw

    def scores(self, answer: Tensor, recent: bool = False) -> Tensor:
        """How near an answer comes to the values of the patterns."""
        return self.patterns.near_values(self._map @ answer[:-1].cpu(), recent)

    def observe(self, number: int, key: bytes, value: bytes, learning_rate: float) -> Step:
        """Take one step towards answering ``key`` by ``value``, and keep both as the pattern ``number``."""
        asked = self.weights.ask(self.key(key), self.channels(value))
        raw, surprise = asked.raw, self.calibration.surprise(asked.raw)
        near, first = self.patterns.near_keys(_grid(key))
        new = not len(near) or float(near.max()) < SAME
        if new:
            self.calibration.note_error(raw)
            if self.count % (ASKED_EVERY * (1 + len(self.patterns) // MANY)) == 0 and len(self.patterns):
                self._be_asked(asked.answer)
        best = near.topk(min(MOST_ACTIVATED, len(near)))
        activated = [self.patterns.ids[first + i] for score, i in zip(best.values.tolist(), best.indices.tolist(), strict=True) if score >= EXCITED]
        delta = self.weights.move(asked, learning_rate)
        self.patterns.add(number, _grid(key), _grid(value))
        self.count += 1
        return Step(raw, surprise, delta, activated)

    def hash(self) -> str:
        """16 hexadecimal digits that name the weights, and what else their rule carries from step to step."""
        return self.weights.hash()

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the patterns, to be saved."""
        return {**self.weights.tensors(), **self.calibration.tensors(), "count": torch.tensor(self.count)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``tensors``."""
        self.weights.load(tensors)
        self.calibration, self.count = Calibration.of(tensors), int(tensors["count"])

    def _be_asked(self, unknown: Tensor) -> None:
        """Count two recalls: of a text that is not there, by the memory's answer to it, and of an earlier one, by half of its key."""
        self.calibration.note_recall(float(self.scores(unknown, recent=True).max()), right=False)
        index = (self.count * 7919) % len(self.patterns)
        key = self.patterns.key(index).clone()
        key[self.count // ASKED_EVERY % 2 :: 2] = 0
        if bool((key == 0).all()):
            return
        scores = self.scores(self.answer(self.key(key.to(torch.int8).numpy().tobytes())))
        best = float(scores.max())
        self.calibration.note_recall(best, right=float(scores[index]) >= best - 1e-6)


def _grid(embedding: bytes) -> Tensor:
    return torch.frombuffer(bytearray(embedding), dtype=torch.int8)
