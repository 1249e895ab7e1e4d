"""The default rule, written out: Titans equations 12 to 15 on a perceptron, for one memory and one token."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from . import ordered
from .config import MemoryConfig
from .rules import EXPANSION
from .signs import signs
from .weights import Asked

UNITS = (
    1024  # hidden units whose inputs have variance one; more of them start smaller, so that a learning rate means one thing in memories of all widths
)


class Titans:
    """Weights and momentum, each step one of ``config.rule``: a test holds it against the engine that is the definition.

    Every sum is taken in a written order, so a history gives the same weights, bit by bit, on every machine.

    Args:
        config: The size of the memory, and how it learns.
    """

    def __init__(self, config: MemoryConfig) -> None:
        self.config, self.weights = config, _initial(config)
        self.momentum = [torch.zeros_like(w) for w in self.weights] if config.momentum else []

    def key(self, channels: Tensor) -> Tensor:
        """The channels, with a one in the last."""
        key = channels.clone()
        key[-1] = 1.0
        return key

    def answer(self, key: Tensor) -> Tensor:
        return self._forward(key)[1]

    def ask(self, key: Tensor, channels: Tensor) -> Asked:
        inputs, answer = self._forward(key)
        return Asked(key, channels, answer, ordered.squared(answer - channels) / 2, tuple(inputs))

    def move(self, asked: Asked, learning_rate: float) -> float:
        return self._move(asked.inputs, asked.answer - asked.target, asked.raw, learning_rate)

    def matrices(self) -> list[Tensor]:
        return self.weights

    def hash(self) -> str:
        digest = hashlib.sha256()
        for tensor in (*self.weights, *self.momentum):
            digest.update(f"{list(tensor.shape)}".encode())
            digest.update(tensor.cpu().numpy().astype("<f4", copy=False).data)
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        return {f"weights/{i}": w for i, w in enumerate(self.weights)} | {f"momentum/{i}": s for i, s in enumerate(self.momentum)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        device = self.config.device
        self.weights = [tensors[f"weights/{i}"].to(device) for i in range(len(self.weights))]
        self.momentum = [tensors[f"momentum/{i}"].to(device) for i in range(len(self.momentum))]

    def _forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """What goes into each layer, and the answer."""
        inputs = [x]
        for weight in self.weights[:-1]:
            inputs.append(ordered.forward(inputs[-1], weight).relu_())
        return inputs, ordered.forward(inputs[-1], self.weights[-1])

    def _move(self, inputs: tuple[Tensor, ...], missing: Tensor, raw: float, learning_rate: float) -> float:
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


def _initial(config: MemoryConfig) -> list[Tensor]:
    """Random signs that keep the length of what goes through, and zeros at the last layer: a memory that has read nothing answers nothing.

    A hidden unit of the first layer starts with a threshold of one, the row of the channel that is always one, so that about one in six is on for a text.
    """
    widths = [config.dim, *[int(EXPANSION * config.dim)] * (config.memory_depth - 1), config.dim]
    shapes = list(pairwise(widths))
    weights = [signs(f"layer {i}", config.seed, *shape) for i, shape in enumerate(shapes[:-1])]
    for weight in weights[:1]:
        weight[-1] = -1.0
        weight *= math.sqrt(UNITS / weight.shape[1])
    for i in range(1, len(weights)):
        weights[i] *= math.sqrt(2.0 / len(weights[i]))
    return [w.to(config.device) for w in (*weights, torch.zeros(shapes[-1]))]
