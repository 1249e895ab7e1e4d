"""What a memory is asked after so many texts, and how a change of topic looks to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .material import Stream
from .memories import Remembers

SAMPLE = 300
"""Texts of a kind that are asked at a time, at most."""
FROM_EACH = 100
"""Texts of a stretch that are asked by their questions and edits, at most."""
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
    seen = memory.strangeness([stream.texts[place] for place in dice.sample(range(read), min(SAMPLE, read))])
    unseen = memory.strangeness(dice.sample(stream.unseen, min(SAMPLE, len(stream.unseen))))
    old, new = (memory.strangeness(stream.texts[part]) for part in (slice(0, min(END, read)), slice(max(0, read - END), read)))
    stretches = []
    for first, end in pairwise(stream.bounds):
        if end <= read:
            places = sorted(place for place in stream.questions if first <= place < end)
            places = sorted(dice.sample(places, min(FROM_EACH, len(places))))
            originals, edits = (memory.strangeness([rows[place] for place in places]) for rows in (stream.texts, stream.edits))
            stretches.append(
                {
                    "first": first,
                    "texts": end - first,
                    "asked": len(places),
                    **_recall(memory, stream, places),
                    "unseen over edited": above(edits, unseen),
                    "edited over seen": above(originals, edits),
                }
            )
    found: dict[str, Any] = {
        "read": read,
        "bytes": memory.bytes,
        "unseen over seen": above(seen, unseen),
        "unseen over oldest": above(old, unseen),
        "unseen over newest": above(new, unseen),
        "strangeness": {"seen": float(seen.mean()), "unseen": float(unseen.mean())},
        "stretches": stretches,
    }
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


def over_all(row: dict[str, Any], name: str) -> float:
    """A figure of the stretches for all that was read: each stretch counts by its texts, however many of them were asked.

    Examples:
        >>> over_all({"stretches": [{"texts": 100, "first of all": 1.0}, {"texts": 300, "first of all": 0.5}]}, "first of all")
        0.625
    """
    stretches = row["stretches"]
    return sum(stretch["texts"] * stretch[name] for stretch in stretches) / sum(stretch["texts"] for stretch in stretches)


def _recall(memory: Remembers, stream: Stream, places: Sequence[int]) -> dict[str, float]:
    """The share of texts that are found first, or among the first five, by their questions."""
    rank = ranks(memory.scores([stream.questions[place] for place in places]), places)
    return {name: float((rank < most).double().mean()) for name, most in (("right first", 1), ("right among five", 5))}


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _rounded(x) for name, x in found.items()}
    if isinstance(found, list):
        return [_rounded(x) for x in found]
    return round(found, 4) if isinstance(found, float) else found
