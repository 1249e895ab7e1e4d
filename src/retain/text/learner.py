"""A memory that learns: one state of a rule, moved by a step for each pair of embeddings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from . import ordered
from .calibration import Calibration
from .config import EXPANSION, MemoryConfig
from .patterns import EXCITED, SAME, Patterns

ASKED_EVERY = 4  # observations between two at which the memory is asked what it should, and what it cannot, know
MOST_ACTIVATED = 8
UNITS = (
    1024  # hidden units whose inputs have variance one; more of them start smaller, so that a learning rate means one thing in memories of all widths
)


@dataclass(frozen=True)
class Step:
    """What one observation did.

    Args:
        raw: The memory's error at the text, before it was written: half the squared length of what its answer lacked.
        surprise: That error between 0 and 1.
        weight_delta: The length of the change of all weights.
        activated: The earlier texts whose keys the text's key excites, the nearest first.
    """

    raw: float
    surprise: float
    weight_delta: float
    activated: list[int]


class Learner:
    """The weights and the momentum of a memory, its calibration, and the embeddings of what it has read.

    Each step is one of ``config.rule``, for one token and one memory, written out: a test holds it against the engine that is the definition. Every sum is
    taken in a written order, so a history gives the same weights, bit by bit, on every machine.

    Args:
        config: The size of the memory, and how it learns.
        width: Numbers in an embedding.
    """

    def __init__(self, config: MemoryConfig, width: int) -> None:
        self.config, self.width, self.count = config, width, 0
        self.calibration, self.patterns = Calibration(), Patterns(width)
        self._map = _signs("map", config.seed, width, config.dim - 1)
        self.weights = _initial(config)
        self.momentum = [torch.zeros_like(w) for w in self.weights] if config.momentum else []

    def channels(self, embedding: bytes) -> Tensor:
        """A stored embedding as a vector of length one, with one channel more that is zero [dim]."""
        mixed = (_grid(embedding) @ self._map).double()  # whole numbers below 2^24 for up to 1000 channels: exact in any order
        unit = mixed / math.sqrt(int((mixed * mixed).sum()))
        return torch.cat([unit, unit.new_zeros(1)]).float().to(self.config.device)

    def key(self, embedding: bytes) -> Tensor:
        """What the memory is asked by: the channels, with a one in the last."""
        key = self.channels(embedding)
        key[-1] = 1.0
        return key

    def answer(self, key: Tensor) -> Tensor:
        """What the memory answers to a key as it stands [dim]."""
        return self._forward(key)[1]

    def error(self, key: bytes, value: bytes) -> float:
        """Half the squared length of what the answer to a key lacks."""
        return ordered.squared(self.answer(self.key(key)) - self.channels(value)) / 2

    def scores(self, answer: Tensor, recent: bool = False) -> Tensor:
        """How near an answer comes to the values of the patterns."""
        return self.patterns.near_values(self._map @ answer[:-1].cpu(), recent)

    def observe(self, number: int, key: bytes, value: bytes, learning_rate: float) -> Step:
        """Take one step towards answering ``key`` by ``value``, and keep both as the pattern ``number``."""
        x, target = self.key(key), self.channels(value)
        inputs, y = self._forward(x)
        missing = y - target
        raw = ordered.squared(missing) / 2
        surprise = self.calibration.surprise(raw)
        near, first = self.patterns.near_keys(_grid(key))
        new = not len(near) or float(near.max()) < SAME
        if new:
            self.calibration.note_error(raw)
            if self.count % ASKED_EVERY == 0 and len(self.patterns):
                self._be_asked(y)
        best = near.topk(min(MOST_ACTIVATED, len(near)))
        activated = [self.patterns.ids[first + i] for score, i in zip(best.values.tolist(), best.indices.tolist(), strict=True) if score >= EXCITED]
        delta = self._move(inputs, missing, raw, learning_rate)
        self.patterns.add(number, _grid(key), _grid(value))
        self.count += 1
        return Step(raw, surprise, delta, activated)

    def hash(self) -> str:
        """16 hexadecimal digits that name the weights and their momentum: the same for the same history, in every run and on every machine."""
        digest = hashlib.sha256()
        for tensor in (*self.weights, *self.momentum):
            digest.update(f"{list(tensor.shape)}".encode())
            digest.update(tensor.cpu().numpy().astype("<f4", copy=False).data)
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the patterns, to be saved."""
        named = {f"weights/{i}": w for i, w in enumerate(self.weights)} | {f"momentum/{i}": s for i, s in enumerate(self.momentum)}
        return {**named, **self.calibration.tensors(), "count": torch.tensor(self.count)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``tensors``."""
        device = self.config.device
        self.weights = [tensors[f"weights/{i}"].to(device) for i in range(len(self.weights))]
        self.momentum = [tensors[f"momentum/{i}"].to(device) for i in range(len(self.momentum))]
        self.calibration, self.count = Calibration.of(tensors), int(tensors["count"])

    def _forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """What goes into each layer, and the answer."""
        inputs = [x]
        for weight in self.weights[:-1]:
            inputs.append(ordered.forward(inputs[-1], weight).relu_())
        return inputs, ordered.forward(inputs[-1], self.weights[-1])

    def _move(self, inputs: list[Tensor], missing: Tensor, raw: float, learning_rate: float) -> float:
        slopes = [missing]
        for x, weight in zip(reversed(inputs[1:]), reversed(self.weights[1:]), strict=True):
            slopes.insert(0, ordered.backward(weight, slopes[0], x > 0))
        steepness = sum(ordered.squared(x) * ordered.squared(d) for x, d in zip(inputs, slopes, strict=True))
        if not steepness:
            rate = learning_rate
        else:  # to first order, a step of 2 raw / steepness takes the error to nothing, and momentum adds to it
            rate = min(learning_rate, (1 - self.config.momentum) * 2 * raw / steepness)
        moved = 0.0
        for layer, (x, d) in enumerate(zip(inputs, slopes, strict=True)):
            step = d * -rate
            for at in range(0, len(x), ordered.ROWS):
                moved += self._move_rows(layer, slice(at, at + ordered.ROWS), x, step)
        return math.sqrt(moved)

    def _move_rows(self, layer: int, rows: slice, x: Tensor, step: Tensor) -> float:
        weight, change = self.weights[layer][rows], x[rows, None] * step
        if self.momentum:
            change = self.momentum[layer][rows].mul_(self.config.momentum).add_(change)
        if self.config.forgetting:
            change = change - weight * self.config.forgetting
        weight.add_(change)
        flat = change.reshape(-1)
        return float(torch.dot(flat, flat))

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
    return torch.frombuffer(bytearray(embedding), dtype=torch.int8).float()


def _signs(name: str, seed: int, rows: int, columns: int) -> Tensor:
    """Random numbers, each -1 or 1, that are the same everywhere."""
    count = rows * columns
    data = hashlib.shake_256(f"retain.text {name} {seed} {rows} {columns}".encode()).digest((count + 7) // 8)
    octets = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return (bits.reshape(-1)[:count].float() * 2 - 1).reshape(rows, columns)


def _initial(config: MemoryConfig) -> list[Tensor]:
    """Random signs that keep the length of what goes through, and zeros at the last layer: a memory that has read nothing answers nothing.

    A hidden unit of the first layer starts with a threshold of one, the row of the channel that is always one, so that about one in six is on for a text.
    """
    widths = [config.dim, *[int(EXPANSION * config.dim)] * (config.memory_depth - 1), config.dim]
    shapes = list(pairwise(widths))
    weights = [_signs(f"layer {i}", config.seed, *shape) for i, shape in enumerate(shapes[:-1])]
    for weight in weights[:1]:
        weight[-1] = -1.0
        weight *= math.sqrt(UNITS / weight.shape[1])
    for i in range(1, len(weights)):
        weights[i] *= math.sqrt(2.0 / len(weights[i]))
    return [w.to(config.device) for w in (*weights, torch.zeros(shapes[-1]))]
