"""A retrofit, in full: which model, what memory, what is read and asked, and what ordinary text must not notice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from retain.retrofit import MemoryConfig
from retain.tasks import AbstractPages, Bytes, Codec, Haystack, Repeated

from ..run import Lesson, Reading, Schedule, Watch


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """A pretrained model, the memory that it is given, and how that begins.

    Args:
        base: The model: a folder, or the name of one on the hub.
        memory: The memory.
        start: ``"plain"``, as it is made; or ``"recall"``: keys begin as the queries of one token earlier, values as embeddings of their tokens, and what is
            read as what was written, so that from the first step on an answer can be read off; see ``start_recalling``.
        scale: How loud the answer is at such a start, in units of the stream that it is added to.
        lags: How much of each token further back goes into a query then.
        calibrated: Pages on which centred features are calibrated.
        opening: The text that each stretch begins with which is read with a fresh attention cache, behind the token that begins a text.

    Raises:
        ValueError: The start is unknown.

    Examples:
        >>> Fitting(base="some/model", start="recall").scale
        2.5
    """

    base: str
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    start: Literal["plain", "recall"] = "plain"
    scale: float = 2.5
    lags: tuple[float, ...] = (0.3, 1.0, 0.3)
    calibrated: int = 32
    opening: str = "\n"

    def __post_init__(self) -> None:
        if self.start not in ("plain", "recall"):
            raise ValueError(f"Fitting.start is 'plain' or 'recall', got {self.start!r}.")


@dataclass(frozen=True, kw_only=True)
class Restraint:
    r"""What keeps a model as it was where memory is of no use: $\mathrm{KL}(p_{\mathrm{base}} \,\|\, p)$ per token of ordinary text, read with a memory full
    of pages; and a price for writing.

    Args:
        divergence: What the former is multiplied by in the loss; 0 leaves it out.
        rows: Stretches of ordinary text in an update.
        length: Tokens of each.
        text: Where they come from.
        codec: What a token is.
        write_cost: What the openness of the memories' learning gates, on average over the tokens of pages, is multiplied by in the loss.
        margin: How much more open than they stand the gates are told to be, which lets them shut; see ``NeuralMemory.write_cost``.

    Raises:
        ValueError: A number is out of range.

    Examples:
        >>> Restraint(divergence=0.5).rows
        8
    """

    divergence: float = 1.0
    rows: int = 8
    length: int = 32
    text: Haystack = field(default_factory=Repeated)
    codec: Codec = field(default_factory=Bytes)
    write_cost: float = 0.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.divergence < 0 or self.write_cost < 0 or self.rows < 1 or self.length < 2:
            raise ValueError(
                "Restraint needs divergence and write_cost of 0 at least, rows of 1 and length of 2 at least; "
                f"got {self.divergence}, {self.write_cost}, {self.rows} and {self.length}."
            )


@dataclass(frozen=True, kw_only=True)
class PageReading(Reading):
    """How many pages are read at once; ``rows`` counts pages, and ``segment`` has no meaning, since pages come in parts.

    Args:
        asked: Questions of a page that an update asks, drawn from those that the page has; None is all.
        pool: Pages of a task that are read again and again, and as many updates' ordinary text. What the frozen layers below the first memory make of them
            is kept, which is most of the work where memories are late. None reads new pages at each update.

    Raises:
        ValueError: A number is out of range, or there is a segment.

    Examples:
        >>> PageReading(rows=16, pool=288).precision
        'fp32'
    """

    asked: int | None = None
    pool: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.asked is not None and self.asked < 1) or (self.pool is not None and self.pool < self.rows):
            raise ValueError(
                f"PageReading needs asked of 1 at least and pool of rows={self.rows} at least, or None; got {self.asked} and {self.pool}."
            )
        if self.segment is not None:
            raise ValueError("pages say themselves where they are cut, so PageReading.segment is None. Cure: pages in parts.")


@dataclass(frozen=True, kw_only=True)
class RetrofitRun:
    """Everything that decides what the training of a retrofit comes to.

    Args:
        model: The pretrained model and its memory.
        lessons: The curriculum, in order.
        restraint: What keeps the model as it was.
        schedule: The optimizer.
        reading: How much is read at once; with ``precision="bf16"`` the pretrained model lies in bfloat16, its memories in float32 all the same.
        watch: What is written down.
        seed: Of weights and pages.

    Raises:
        ValueError: There is no lesson.

    Examples:
        >>> from retain.tasks import Pairs
        >>> run = RetrofitRun(model=Fitting(base="some/model"), lessons=(Lesson(tasks=(Pairs(),), steps=100),))
        >>> run.steps
        100
    """

    model: Fitting
    lessons: tuple[Lesson[AbstractPages], ...]
    restraint: Restraint = field(default_factory=Restraint)
    schedule: Schedule = field(default_factory=lambda: Schedule(lr=2e-3, gate_lr=1e-2, warm_up=10))
    reading: PageReading = field(default_factory=lambda: PageReading(rows=16))
    watch: Watch = field(default_factory=Watch)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lessons:
            raise ValueError("a run has at least one lesson, got none.")

    @property
    def steps(self) -> int:
        """Updates, if no lesson ends early."""
        return sum(lesson.steps for lesson in self.lessons)
