"""Streaming haystacks through a model: its answers, its speed, and the memory that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .machine import resident_bytes
from .model import ByteModel, ByteModelState
from .needle import DIGITS, Haystack
from .training import Pause


@dataclass(frozen=True)
class Answers:
    """What came of asking for the needles of some haystacks of one length.

    Args:
        length: Bytes of each haystack, question included.
        read: Bytes of each that the model was given: all of them, unless only an end of it was asked for.
        needles: The haystacks, one row each: depth, value and what was answered.
        seconds: Time to read them, all rows side by side.
        state_bytes: What one row's state takes.
        resident: Memory of the process in bytes: before, and the most while reading; None where the system does not tell.
    """

    length: int
    read: int
    needles: list[dict[str, Any]]
    seconds: float
    state_bytes: int
    resident: tuple[int, int] | None

    @property
    def right(self) -> int:
        """Needles of which all digits were found."""
        return sum(one["answer"] == one["value"] for one in self.needles)

    @property
    def digits_right(self) -> float:
        """The share of digits that were found, each in its place."""
        same = [a == b for one in self.needles for a, b in zip(one["answer"], one["value"], strict=True)]
        return sum(same) / len(same)

    def report(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        total = self.read * len(self.needles)
        return {
            **asdict(self),
            "right": self.right,
            "asked": len(self.needles),
            "digits_right": round(self.digits_right, 4),
            "bytes_per_second": round(total / self.seconds),
            "seconds": round(self.seconds, 2),
        }


def ask(
    model: ByteModel,
    haystacks: Sequence[Haystack],
    call: int,
    pause: Pause,
    tick: Callable[[int], None] = lambda read: None,
    write: bool = True,
    last: int | None = None,
) -> Answers:
    """Read haystacks of one length side by side, ``call`` bytes a call, carrying nothing but the state; then read off the answers digit by digit.

    Args:
        model: The model.
        haystacks: One row each.
        call: Bytes a call.
        pause: Looked at between calls.
        tick: Told after each call how many bytes it read, over all rows.
        write: False forbids the memories to learn.
        last: Read no more than the last so many bytes. Without writes nothing earlier than the convolutions reach can matter.
    """
    text = torch.stack([one.text for one in haystacks])
    length = text.shape[1]
    if last is not None:
        text = text[:, -last:]
    before = highest = resident_bytes()
    state: ByteModelState | None = None
    hidden = torch.empty(0)
    begin = time.perf_counter()
    with torch.no_grad():
        for stretch in text.split(call, dim=1):
            pause.check()
            hidden, state, _ = model(stretch.long(), state, write)
            now = resident_bytes()
            highest = None if now is None or highest is None else max(highest, now)
            tick(stretch.numel())
        seconds = time.perf_counter() - begin
        assert state is not None
        size = state.bytes_per_row()
        answers: list[Tensor] = []
        while len(answers) < DIGITS:
            answers.append(model.logits(hidden[:, -1:]).argmax(-1))
            hidden, state, _ = model(answers[-1], state, write)
    found = ["".join(chr(b) if 32 <= b < 127 else "?" for b in row) for row in torch.cat(answers, dim=1).tolist()]
    needles = [
        {"key": one.needle.key, "value": one.needle.value, "answer": answer, "depth": round(one.depth, 4)}
        for one, answer in zip(haystacks, found, strict=True)
    ]
    resident = None if before is None or highest is None else (before, highest)
    return Answers(length, text.shape[1], needles, seconds, size, resident)


def gate_trace(model: ByteModel, haystack: Haystack, around: int) -> dict[str, Any]:
    """How far the write gate stands open over one haystack, and at each byte ``around`` its needle."""
    with torch.no_grad():
        opened = model.gates_open(haystack.text[None].long())[0]
    start = bytes(haystack.text.numpy()).index(haystack.needle.line.encode())
    end = start + len(haystack.needle.line)
    question = len(opened) - len(haystack.needle.question)
    hay = torch.cat([opened[:start], opened[end:question]])
    first = max(0, start - around)
    return {
        "length": len(opened),
        "needle_at": start,
        "most_open": [round(float(part.max()), 4) for part in opened.chunk(256)],
        "near": {
            "text": [chr(b) if 32 <= b < 127 else "¶" if b == 10 else "·" for b in haystack.text[first : end + around].tolist()],
            "open": [round(float(v), 4) for v in opened[first : end + around]],
        },
        "share_of_hay_written": float((hay > 0).float().mean()),
        "mean_open_on_hay": float(hay.mean()),
        "mean_open_on_digits": float(opened[end - 1 - DIGITS : end - 1].mean()),
    }
