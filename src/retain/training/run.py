"""A run, in full: what is trained, on what, how, and what is written down on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from retain.tasks import AbstractPages, AbstractTask

T = TypeVar("T", AbstractTask, AbstractPages, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Lesson(Generic[T]):
    """A stretch of the curriculum.

    Args:
        tasks: Where its samples come from; each update draws one of them.
        steps: Updates, at most.
        promote_at: The share of right answers, averaged over ``patience`` updates, at which the next lesson begins early; None never does.
        patience: See ``promote_at``.
        write_cost: The share of the model's write cost that counts; one that rises from lesson to lesson lets a memory be of use before it pays in full.

    Raises:
        ValueError: There is no task or no step, ``promote_at`` lies outside (0, 1], or the write cost is negative.

    Examples:
        >>> from retain.tasks import Parity
        >>> Lesson(tasks=(Parity(shortest=2, longest=8),), steps=100, promote_at=0.99).patience
        10
    """

    tasks: tuple[T, ...]
    steps: int
    promote_at: float | None = None
    patience: int = 10
    write_cost: float = 1.0

    def __post_init__(self) -> None:
        if not self.tasks or self.steps < 1 or self.patience < 1:
            raise ValueError(f"a lesson has tasks, steps and patience, got {len(self.tasks)}, {self.steps} and {self.patience}.")
        if self.promote_at is not None and not 0 < self.promote_at <= 1:
            raise ValueError(f"promote_at is a share of right answers, above 0 and at most 1; got {self.promote_at}.")
        if self.write_cost < 0:
            raise ValueError(f"write_cost is a share of the model's write cost, 0 or more; got {self.write_cost}.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW with a warm-up and a cosine down to ``floor``; the memories' gates learn at a rate of their own and without weight decay.

    Args:
        lr: The highest learning rate.
        gate_lr: That of the gates, and of the rates of levels.
        warm_up: Updates until it is reached.
        floor: The share of it that is left at the end.
        weight_decay: On matrices outside the memories' gates and initial weights.
        clip: The largest norm of all gradients together; larger ones are scaled down.
        betas: AdamW's.

    Examples:
        >>> round(Schedule(warm_up=10).share(4, 100), 3)
        0.498
    """

    lr: float = 3e-3
    gate_lr: float = 1.5e-2
    warm_up: int = 30
    floor: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)

    def share(self, step: int, steps: int) -> float:
        """The share of the learning rate that the update ``step`` of ``steps`` uses."""
        cosine = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * step / steps))
        return min(1.0, (step + 1) / max(1, self.warm_up)) * cosine


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How much is read at once.

    Args:
        rows: Samples of an update, over all processes and ``accumulate`` parts.
        accumulate: Parts in which they are read, one after the other.
        segment: Tokens after which a sample is cut: each piece is an update, and the memories go on from one to the next without gradients (truncated
            backpropagation through time). None reads samples whole.
        precision: ``"fp32"``, or ``"bf16"``: the model under autocast, memories and gates in float32 all the same.
        checkpointing: Whether what blocks compute is computed again in the backward pass rather than kept.
        across: How several processes share the work: ``"replicas"`` of the model (DDP), or ``"shards"`` of it (FSDP2).

    Raises:
        ValueError: A size is not positive, or the parts do not divide the rows.

    Examples:
        >>> Reading(rows=32, accumulate=4).accumulate
        4
    """

    rows: int = 32
    accumulate: int = 1
    segment: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpointing: bool = False
    across: Literal["replicas", "shards"] = "replicas"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.accumulate < 1 or self.rows % self.accumulate:
            raise ValueError(f"accumulate divides rows, both positive; got {self.accumulate} and {self.rows}.")
        if self.segment is not None and self.segment < 1:
            raise ValueError(f"a segment has at least one token, got {self.segment}.")
        if self.segment is not None and self.accumulate > 1:
            raise ValueError("samples in segments are read with accumulate=1: each row's memory goes on from its own last segment.")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is written down on the way.

    Args:
        every: Updates between two lines of ``metrics.jsonl``.
        save_every: Updates between two checkpoints; there is one at the end in any case.
        keep: Checkpoints that stay.
        stop_below: Training ends when the loss, averaged over the last ``stop_after`` updates, is below this; None never does.
        stop_after: See ``stop_below``.
        to: What else is told: ``"tensorboard"``, ``"trackio"``.

    Examples:
        >>> Watch(to=("tensorboard",)).keep
        2
    """

    every: int = 10
    save_every: int = 100
    keep: int = 2
    stop_below: float | None = None
    stop_after: int = 20
    to: tuple[Literal["tensorboard", "trackio"], ...] = ()

    def __post_init__(self) -> None:
        if min(self.every, self.save_every, self.keep, self.stop_after) < 1:
            raise ValueError("every, save_every, keep and stop_after are at least 1.")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides what a training comes to.

    Args:
        model: The arguments of ``RetainConfig``; the vocabulary is the tasks' unless given.
        lessons: The curriculum, in order.
        schedule: The optimizer.
        reading: How much is read at once.
        watch: What is written down.
        seed: Of weights and samples.

    Raises:
        ValueError: There is no lesson.

    Examples:
        >>> from retain.tasks import Parity
        >>> run = Run(model={"block": "lmm"}, lessons=(Lesson(tasks=(Parity(shortest=2, longest=8),), steps=100),))
        >>> run.steps, run.vocab_size
        (100, 3)
    """

    model: Mapping[str, Any]
    lessons: tuple[Lesson[AbstractTask], ...]
    schedule: Schedule = field(default_factory=Schedule)
    reading: Reading = field(default_factory=Reading)
    watch: Watch = field(default_factory=Watch)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lessons:
            raise ValueError("a run has at least one lesson, got none.")

    @property
    def steps(self) -> int:
        """Updates, if no lesson ends early."""
        return sum(lesson.steps for lesson in self.lessons)

    @property
    def vocab_size(self) -> int:
        """Tokens that the model knows: those of the tasks unless the model says more."""
        return self.model.get("vocab_size", max(task.vocab_size for lesson in self.lessons for task in lesson.tasks))
