"""The default rule, written out: Titans equations 12 to 15 on a perceptron, for one memory and one token."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from . import ordered
from .config import MemoryConfig
from .lingering import Lingering
from .rules import EXPANSION
from .signs import signs
from .weights import Asked

UNITS = (
    1024  # hidden units whose inputs have variance one; more of them start smaller, so that a learning rate means one thing in memories of all widths
)
FADED = 2.0**-10  # the share of what was written long ago below which it is written anew


@dataclass(frozen=True)
class _Passed:
    """What went through one layer: its input, where that is not zero, the layer's rows there, what these made of it, and how near it was to each earlier input."""

    x: Tensor
    there: Tensor
    rows: Tensor
    made: Tensor
    near: Tensor


class Titans:
    r"""Weights and momentum, each step one of ``config.rule``: a test holds it against the engine that is the definition.

    Written out are not the weights $W$ but where they would come to if no step followed but for what lingers, $V = W + b S$ with the momentum $S$ and
    $b = \eta / (1 - \alpha - \eta)$. By equations 13 and 14 a step with the gradient $u$ makes of it $(1 - \alpha) V - (1 + b)\,u$: a product of two vectors,
    most of whose entries are zero, is all that is added. $S$ is a sum of such products, and only the last few of them count.

    Every sum is taken in a written order, so a history gives the same weights, bit by bit, on every machine.

    Args:
        config: The size of the memory, and how it learns.
    """

    def __init__(self, config: MemoryConfig) -> None:
        self.config, self._ahead = config, _initial(config)
        self._share = 1.0  # of what is written in _ahead is left: forgetting
        self._lead = config.momentum / (1 - config.forgetting - config.momentum)  # b
        self._lingering = [Lingering(config.momentum, *shape, config.device) for shape in _shapes(config)]
        self._lengths = [0.0, 0.0, sum(ordered.squared(w.reshape(-1)) for w in self._ahead)]  # <S, S>, <S, V>, <V, V>

    def key(self, channels: Tensor) -> Tensor:
        """The channels, with a one in the last."""
        key = channels.clone()
        key[-1] = 1.0
        return key

    def answer(self, key: Tensor) -> Tensor:
        return self._forward(key)[1]

    def ask(self, key: Tensor, channels: Tensor) -> Asked:
        passed, answer = self._forward(key)
        return Asked(key, channels, answer, ordered.squared(answer - channels) / 2, tuple(passed))

    def move(self, asked: Asked, learning_rate: float) -> float:
        passed, slope, slopes = asked.passed, asked.answer - asked.target, list[Tensor]()
        for layer in range(len(passed) - 1, -1, -1):
            slopes.insert(0, slope)
            if layer:
                slope = self._backward(layer, passed[layer], slope)
        steepness = sum(ordered.squared(p.x) * ordered.squared(d) for p, d in zip(passed, slopes, strict=True))
        rate = learning_rate
        if steepness:  # to first order, a step of 2 raw / steepness takes the error to nothing, and momentum adds to it
            rate = min(learning_rate, (1 - self.config.momentum) * 2 * asked.raw / steepness)
        return self._step(passed, slopes, rate, rate * rate * steepness)

    def matrices(self) -> list[Tensor]:
        whole = []
        for layer, (ahead, lingering) in enumerate(zip(self._ahead, self._lingering, strict=True)):
            plain = (ahead if layer else ahead.T) * self._share
            whole.append(plain - lingering.whole() * self._lead if self._lead else plain)
        return whole

    def momentum(self) -> list[Tensor]:
        """What lingers of the steps so far, for each layer."""
        return [lingering.whole() for lingering in self._lingering]

    def hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in self._state():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._state())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        device = self.config.device
        self._ahead = [tensors[f"weights/{i}"].to(device) for i in range(len(self._ahead))]
        for i, lingering in enumerate(self._lingering):
            lingering.load(*(tensors[f"momentum/{i}/{part}"] for part in ("inputs", "steps", "taken")))
        self._share, *self._lengths = tensors["scalars"].tolist()

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for i, (ahead, lingering) in enumerate(zip(self._ahead, self._lingering, strict=True)):
            yield f"weights/{i}", ahead
            yield f"momentum/{i}/inputs", lingering.inputs
            yield f"momentum/{i}/steps", lingering.steps
            yield f"momentum/{i}/taken", torch.tensor(lingering.taken)
        yield "scalars", torch.tensor([self._share, *self._lengths], dtype=torch.float64)

    def _forward(self, x: Tensor) -> tuple[list[_Passed], Tensor]:
        """What goes through each layer, and the answer."""
        passed = []
        for layer, (ahead, lingering) in enumerate(zip(self._ahead, self._lingering, strict=True)):
            there = x.nonzero()[:, 0] if layer else x.new_zeros(0, dtype=torch.long)
            rows = ahead[there] if layer else ahead
            made = ordered.by_rows(x[there], rows) if layer else ordered.by_columns(ahead, x)
            near = lingering.near(x)
            passed.append(_Passed(x, there, rows, made, near))
            y = made if self._share == 1.0 else made * self._share
            x = y - lingering.steps_weighed(near) * self._lead if self._lead else y
            if layer < len(self._ahead) - 1:
                x = x.relu()
        return passed, x

    def _backward(self, layer: int, passed: _Passed, slope: Tensor) -> Tensor:
        """The slope at what a layer's input came from, given that at its output."""
        back = ordered.by_columns(passed.rows, slope) * self._share
        if self._lead:
            lingering = self._lingering[layer]
            back = back - lingering.inputs_weighed(lingering.along(slope))[passed.there] * self._lead
        out = torch.zeros_like(passed.x)
        out[passed.there] = back
        return out

    def _step(self, passed: tuple[_Passed, ...], slopes: list[Tensor], rate: float, squared: float) -> float:
        """Move by minus ``rate`` times the gradient, whose step has the squared length ``squared``; returns how far the weights moved."""
        momentum, kept, lead = self.config.momentum, 1 - self.config.forgetting, self._lead
        lingers, along = 0.0, 0.0  # <S, step>, <V, step>
        share = self._share * kept
        for layer, (p, d) in enumerate(zip(passed, slopes, strict=True)):
            step, lingering = d * -rate, self._lingering[layer]
            along += self._share * ordered.product(p.made, step)
            if lead:
                lingers += ordered.product(lingering.weighed(p.near), lingering.along(step))
                lingering.take(p.x, step)
            far = step if not lead and share == 1.0 else step * ((1 + lead) / share)
            if layer:
                self._ahead[layer].index_add_(0, p.there, p.x[p.there][:, None] * far)
            else:
                moved = far.nonzero()[:, 0]
                self._ahead[0].index_add_(0, moved, far[moved][:, None] * p.x)
        ss, sv, vv = self._lengths
        new = momentum * momentum * ss + 2 * momentum * lingers + squared
        moved = (
            new - 2 * (1 - kept) * (momentum * (sv - lead * ss) + along - lead * lingers) + (1 - kept) ** 2 * (vv - 2 * lead * sv + lead * lead * ss)
        )
        self._lengths = [
            new,
            momentum * kept * sv + momentum * (1 + lead) * lingers + kept * along + (1 + lead) * squared,
            kept * kept * vv + 2 * kept * (1 + lead) * along + (1 + lead) ** 2 * squared,
        ]
        self._share = share
        if share < FADED:
            self._share = 1.0
            for ahead in self._ahead:
                ahead.mul_(share)
        return math.sqrt(max(moved, 0.0))


def _shapes(config: MemoryConfig) -> list[tuple[int, int]]:
    return list(pairwise([config.dim, *[int(EXPANSION * config.dim)] * (config.memory_depth - 1), config.dim]))


def _initial(config: MemoryConfig) -> list[Tensor]:
    """Random signs that keep the length of what goes through, and zeros at the last layer: a memory that has read nothing answers nothing. The first one lies
    on its side [out, in], for it is its outputs that are mostly zero.

    A hidden unit of the first layer starts with a threshold of one, the row of the channel that is always one, so that about one in six is on for a text.
    """
    shapes = _shapes(config)
    weights = [signs(f"layer {i}", config.seed, *shape) for i, shape in enumerate(shapes[:-1])]
    for weight in weights[:1]:
        weight[-1] = -1.0
        weight *= math.sqrt(UNITS / weight.shape[1])
    for i in range(1, len(weights)):
        weights[i] *= math.sqrt(2.0 / len(weights[i]))
    first, *others = [*weights, torch.zeros(shapes[-1])]
    return [w.contiguous().to(config.device) for w in (first.T, *others)]
