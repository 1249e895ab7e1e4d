"""Which samples an update reads: decided by the run's seed and the update's number, and by nothing that happened before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retain.tasks import AbstractTask, Batch, Sample

from .run import Lesson, Run

TRAINED = 1 << 40  # seeds from here on are for training, those below for evaluation


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a training stands.

    Args:
        step: Updates that are done.
        lesson: The lesson that is under way.
        since: Updates that it has taken so far.
        drawn: Batches of samples that were begun.
        offset: Tokens of the present batch that were read already, where samples are cut into segments.
    """

    step: int = 0
    lesson: int = 0
    since: int = 0
    drawn: int = 0
    offset: int = 0


def draw(run: Run, place: Place, rows: Sequence[int]) -> Batch:
    """The samples with these row numbers, of the batch that is drawn at a place. All come from one task."""
    lesson = run.lessons[place.lesson]
    return Batch.of([_sample(run, lesson, place.drawn, row) for row in rows])


def _sample(run: Run, lesson: Lesson[AbstractTask], drawn: int, row: int) -> Sample:
    dice = torch.Generator().manual_seed(run.seed * 1_000_003 + drawn)
    task = lesson.tasks[int(torch.randint(len(lesson.tasks), (1,), generator=dice))]
    return task.sample(TRAINED + (run.seed << 44) + drawn * run.reading.rows + row)
