"""What a memory is asked after so many texts, and how a change of topic looks to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .material import Stream
from .memories import Remembers

SAMPLE = 300
"""Texts of a kind that are asked at a time, at most."""
END = 100
"""Texts that count as the oldest and the newest."""


def above(low: Tensor, high: Tensor) -> float:
    """The probability that one drawn from ``high`` is larger than one drawn from ``low``; a tie counts half. It is the area under the ROC curve.

    Examples:
        >>> above(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        0.875
    """
    larger, equal = high[:, None] > low, high[:, None] == low
    return float((larger.double() + equal.double() / 2).mean())


def ranks(scores: Tensor, right: Sequence[int]) -> Tensor:
    """How many texts score at least as high as the right one, itself left out [questions].

    Examples:
        >>> ranks(torch.tensor([[0.1, 0.9, 0.5]]), [2]).tolist()
        [1]
    """
    return (scores >= scores.gather(1, torch.tensor(right)[:, None])).sum(1) - 1


def asked(memory: Remembers, stream: Stream, read: int, seed: int) -> dict[str, Any]:
    """The exam of a memory that has observed the first ``read`` texts of a stream."""
    dice = random.Random(f"exam {read} {seed}")
    places = [place for place in stream.questions if place < read]
    places = sorted(dice.sample(places, min(SAMPLE, len(places))))
    seen = memory.strangeness([stream.texts[place] for place in dice.sample(range(read), min(SAMPLE, read))])
    unseen = memory.strangeness(dice.sample(stream.unseen, min(SAMPLE, len(stream.unseen))))
    originals, edits = (memory.strangeness([rows[place] for place in places]) for rows in (stream.texts, stream.edits))
    old, new = range(min(END, read)), range(max(0, read - END), read)
    found: dict[str, Any] = {
        "read": read,
        "bytes": memory.bytes,
        "asked": len(places),
        "recall": _recall(memory, stream, places),
        "unseen over seen": above(seen, unseen),
        "unseen over edited": above(edits, unseen),
        "edited over seen": above(originals, edits),
        "unseen over oldest": above(memory.strangeness([stream.texts[place] for place in old]), unseen),
        "unseen over newest": above(memory.strangeness([stream.texts[place] for place in new]), unseen),
        "strangeness": {name: float(t.mean()) for name, t in {"seen": seen, "edited": edits, "unseen": unseen}.items()},
    }
    if read == len(stream.texts):
        found["recall of oldest"] = _recall(memory, stream, [place for place in old if place in stream.questions])
        found["recall of newest"] = _recall(memory, stream, [place for place in new if place in stream.questions])
    return _rounded(found)


def followed(memory: Remembers, stream: Stream, points: Iterable[int], seed: int, told: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Let a memory observe a stream, and ask it whenever it has read as much as one of the points."""
    rows, at = [], set(points)
    for i, text in enumerate(stream.texts, 1):
        memory.observe(text)
        if i in at:
            rows.append(asked(memory, stream, i, seed))
            told(rows[-1])
    return rows


def changed(memory: Remembers, first: Stream, second: Stream, read: int, points: Iterable[int]) -> list[dict[str, Any]]:
    """Let a memory observe so many texts of one stream and then of another, and note how strange it finds both, read and unread."""
    for text in first.texts[:read]:
        memory.observe(text)
    rows, at = [], 0
    for point in points:
        for text in second.texts[at:point]:
            memory.observe(text)
        at = point
        kinds = {"first, read": first.texts[:read][-SAMPLE:], "first, unread": first.unseen[:SAMPLE], "second, unread": second.unseen[:SAMPLE]}
        rows.append(_rounded({"read of the second": point, **{name: float(memory.strangeness(texts).mean()) for name, texts in kinds.items()}}))
    return rows


def _recall(memory: Remembers, stream: Stream, places: Sequence[int]) -> dict[str, float]:
    """The share of texts that are found first, or among the first five, by their questions."""
    if not places:
        return {}
    rank = ranks(memory.scores([stream.questions[place] for place in places]), places)
    return {str(most): float((rank < most).double().mean()) for most in (1, 5)}


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(x) if isinstance(x, dict) else round(x, 4) if isinstance(x, float) else x for name, x in found.items()}
