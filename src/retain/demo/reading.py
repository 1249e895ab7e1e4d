"""Reading a package that was held out, from its first byte to its last in one pass, and how well each byte was foreseen."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .corpus import Book
from .machine import resident_bytes
from .model import ByteModel, ByteModelState
from .training import Pause


@dataclass
class Lessons:
    """Language-model training on streams: for some updates on end the same rows go on, their state carried along but cut off from the graph.

    Args:
        model: Who learns.
        book: What to read.
        seed: Which places of it.
        rows: Streams side by side.
        length: Bytes of each that an update reads.
        carried: Updates until all streams begin anew, at other places.
        write: Whether the memories may learn.
    """

    model: ByteModel
    book: Book
    seed: int
    rows: int = 8
    length: int = 512
    carried: int = 8
    write: bool = True

    def __post_init__(self) -> None:
        self._state: ByteModelState | None = None

    def __call__(self, step: int) -> Tensor:
        """The mean loss of the bytes of an update, in nats."""
        episode, place = divmod(step, self.carried)
        if place == 0:
            self._state = None
        dice = random.Random(f"{self.seed} code {episode}")
        starts = [dice.randrange(len(self.book.text)) + place * self.length for _ in range(self.rows)]
        text = torch.stack([self.book.window(start, self.length + 1) for start in starts]).long()
        hidden, state, _ = self.model(text[:, :-1], self._state, self.write)
        self._state = state.detach()
        return F.cross_entropy(self.model.logits(hidden).flatten(0, 1), text[:, 1:].flatten())


@dataclass(frozen=True)
class Reading:
    """How well a text was foreseen.

    Args:
        bits: Bits that each byte after the first cost.
        seconds: How long the reading took.
        state_bytes: What the state takes.
        resident: Memory of the process in bytes: before, and the most while reading; None where the system does not tell.
    """

    bits: Tensor
    seconds: float
    state_bytes: int
    resident: tuple[int, int] | None

    def report(self, bins: int) -> dict[str, Any]:
        """The numbers, ready for JSON: the mean over all bytes and over each of ``bins`` equal stretches."""
        parts = [float(part.mean()) for part in self.bits.tensor_split(bins)]
        return {
            "bits_per_byte": round(float(self.bits.mean()), 4),
            "by_position": [round(part, 4) for part in parts],
            "bytes": len(self.bits),
            "seconds": round(self.seconds, 2),
            "bytes_per_second": round(len(self.bits) / self.seconds),
            "state_bytes": self.state_bytes,
            "resident": self.resident,
        }


def read(
    model: ByteModel,
    text: Tensor,
    call: int,
    pause: Pause,
    tick: Callable[[int], None] = lambda read: None,
    write: bool = True,
) -> Reading:
    """Read a text in calls of ``call`` bytes, carrying nothing but the state, and tell what each byte cost given all before it."""
    before = highest = resident_bytes()
    state: ByteModelState | None = None
    bits = []
    begin = time.perf_counter()
    with torch.no_grad():
        for start in range(0, len(text) - 1, call):
            pause.check()
            stretch = text[start : start + call + 1].long()
            hidden, state, _ = model(stretch[None, :-1], state, write)
            bits.append(F.cross_entropy(model.logits(hidden)[0], stretch[1:], reduction="none") / math.log(2))
            now = resident_bytes()
            highest = None if now is None or highest is None else max(highest, now)
            tick(len(stretch) - 1)
    seconds = time.perf_counter() - begin
    assert state is not None
    resident = None if before is None or highest is None else (before, highest)
    return Reading(torch.cat(bits), seconds, state.bytes_per_row(), resident)
