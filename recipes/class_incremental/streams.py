"""Class-incremental streams: two new classes a task, one task after the other, and what is asked about them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from retain.tasks.corpus import Corpus

CLASSES, TASKS, LESSONS = 10, 5, 32
PER_TASK = CLASSES // TASKS
TASK = PER_TASK * LESSONS
"""Samples of a task."""
WINDOW, BUCKETS = 512, 2048
FEATURES = 64
ENTRIES = {"pretraining": 46, "tuning": 20, "asked": 20}
"""Modules of the standard library for each part of the work; none is in two."""
LEFT_OUT = {"test", "idlelib", "distutils", "_pydecimal"}
"""Tests and twins of other modules."""

Data = Literal["digits", "source"]


@dataclass(frozen=True)
class Pool:
    """Classes to draw streams from.

    Args:
        lessons: Samples of each class that streams are made of, each [samples, features].
        questions: Others of the same classes, each [samples, features].
    """

    lessons: tuple[Tensor, ...]
    questions: tuple[Tensor, ...]


@dataclass(frozen=True)
class Streams:
    """Streams side by side, each of classes of its own in an order of its own.

    Args:
        x: Samples [rows, tokens, features].
        answers: The slot of each sample's class [rows, tokens]; slots are drawn, so that they do not tell the task.
        asked: Samples that no stream holds [rows, questions, features], task after task.
        right: Their slots [rows, questions].
    """

    x: Tensor
    answers: Tensor
    asked: Tensor
    right: Tensor


def pools(data: Data) -> dict[str, Pool]:
    """Classes for pretraining, for tuning, and to be asked about."""
    if data not in get_args(Data):
        raise ValueError(f"the data are {' or '.join(get_args(Data))}, got {data!r}.")
    return _whitened(_digits() if data == "digits" else _source())


def drawn(pool: Pool, rows: int, seed: int, *, questions: int = 16, shuffled: bool = False) -> Streams:
    """Streams of ten classes each, two a task; all samples in one random order if ``shuffled``."""
    source = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, ...]] = []
    for _ in range(rows):
        classes = torch.randperm(len(pool.lessons), generator=source)[:CLASSES].tolist()
        slots = torch.randperm(CLASSES, generator=source)
        lessons = torch.stack([_some(pool.lessons[own], LESSONS, source) for own in classes])
        asked = torch.stack([_some(pool.questions[own], questions, source) for own in classes])
        if shuffled:
            order = torch.randperm(CLASSES * LESSONS, generator=source)
        else:
            order = torch.cat([task * TASK + torch.randperm(TASK, generator=source) for task in range(TASKS)])
        parts.append((lessons.flatten(0, 1)[order], slots.repeat_interleave(LESSONS)[order], asked.flatten(0, 1), slots.repeat_interleave(questions)))
    return Streams(*(torch.stack(part) for part in zip(*parts, strict=True)))


def _some(samples: Tensor, count: int, source: torch.Generator) -> Tensor:
    return samples[torch.randperm(len(samples), generator=source)[:count]]


def _whitened(found: dict[str, Pool]) -> dict[str, Pool]:
    """Coordinates along the first axes of what there is for pretraining, brought to one width; an axis of little width grows less."""
    samples = torch.cat(found["pretraining"].lessons)
    middle = samples.mean(0)
    _, widths, axes = torch.linalg.svd(samples - middle, full_matrices=False)
    variances = widths[:FEATURES].square() / len(samples)
    onto = axes[:FEATURES].T / (variances + 0.1 * variances.mean()).sqrt()
    return {
        name: Pool(tuple((own - middle) @ onto for own in pool.lessons), tuple((own - middle) @ onto for own in pool.questions))
        for name, pool in found.items()
    }


def _digits() -> dict[str, Pool]:
    """Handwritten digits, 8 x 8. One half of the images, turned and mirrored, is for pretraining and tuning; the other, as it is, to be asked about."""
    pixels, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    images = pixels.float().unflatten(1, (8, 8)) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    own, others = order[: len(order) // 2], order[len(order) // 2 :]
    turned = [torch.rot90(side, turns, (1, 2)) for side in (images, images.mT) for turns in range(4)]
    parts = {"asked": (turned[:1], own), "tuning": (turned[1:2], others), "pretraining": (turned[2:], others)}
    return {
        name: _pool([view.flatten(1)[which][labels[which] == digit] for view in views for digit in range(10)])
        for name, (views, which) in parts.items()
    }


def _source() -> dict[str, Pool]:
    """Windows of Python's standard library by module, as hashed counts of two and three bytes in a row."""
    works = {name: text for name, text in Corpus.code().works.items() if len(text) >= 48 * WINDOW and name not in LEFT_OUT}
    names = sorted(works)
    random.Random("modules").shuffle(names)
    out, first = {}, 0
    for part, count in ENTRIES.items():
        out[part] = _pool([_counts(works[name]) for name in names[first : first + count]])
        first += count
    if len(names) < first:
        raise ValueError(f"this needs {first} modules of {48 * WINDOW} bytes in the standard library; there are {len(names)}.")
    return out


def _counts(text: bytes, most: int = 96) -> Tensor:
    """Windows without overlap, evenly spread over the text."""
    count = min(len(text) // WINDOW, most)
    step = len(text) // count
    seen = torch.stack([torch.frombuffer(bytearray(text[i * step : i * step + WINDOW]), dtype=torch.uint8) for i in range(count)]).long()
    pairs = seen[:, 1:] * 256 + seen[:, :-1]
    triples = pairs[:, 1:] * 256 + seen[:, :-2] + 77
    hashed = torch.cat([pairs, triples], 1) * 2654435761 % 2**32 * BUCKETS // 2**32
    return torch.zeros(count, BUCKETS).scatter_add_(1, hashed, torch.ones(hashed.shape)).sqrt()


def _pool(classes: list[Tensor]) -> Pool:
    """Each third sample is asked about, the others are lessons."""
    third = [torch.arange(len(own)) % 3 == 2 for own in classes]
    return Pool(tuple(own[~out] for own, out in zip(classes, third, strict=True)), tuple(own[out] for own, out in zip(classes, third, strict=True)))
