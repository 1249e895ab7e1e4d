"""How long the pages of a run are, measured on some of them, for its plan."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from retain.tasks import AbstractPages, BytePairs, Page
from retain.tasks.pages.exams import english

from ..lessons import TRAINED
from .estimate import Plan, plan_of
from .run import RetrofitRun
from .sizes import H100, Device, Sizes, Work

LOOKED_AT = 16
"""Pages of a task that are looked at."""
STAND_IN = (16384, 1 << 20)
"""Tokens of the tokenizer that stands in for one that is not here, and bytes of English that they are learnt from."""


def plan_for(run: RetrofitRun, base: str | PretrainedConfig | None = None, *, device: Device = H100, processes: int = 1) -> Plan:
    """What a run will take; see ``plan_of``. Pages are drawn and measured, and nothing else is loaded.

    The sizes are those of the lesson that reads most, for all lessons. Work that a pool of pages saves is not taken off.

    Args:
        run: The run.
        base: The model, if it is not the one that the run names.
        device: On what.
        processes: How many, a device each.

    Raises:
        ValueError: As ``plan_of``.

    Examples:
        >>> from transformers import LlamaConfig
        >>> from retain.retrofit import MemoryConfig
        >>> from retain.tasks import Letters, Pairs
        >>> from retain.training import Lesson
        >>> from retain.training.retrofit import Fitting
        >>> tiny = LlamaConfig(vocab_size=256, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> lesson = Lesson(tasks=(Pairs(facts=3, asked=2, keys=Letters(2)),), steps=100)
        >>> plan = plan_for(RetrofitRun(model=Fitting(base="tiny", memory=MemoryConfig(layers=(0,), memory={"heads": 2})), lessons=(lesson,)), tiny)
        >>> plan.sizes.asked, plan.sizes.ordinary_rows, dict(plan.stages)
        (2, 8, {'1. Pairs': 100})
    """
    reading = run.reading
    work = Work(
        precision=reading.precision,
        checkpointing=reading.checkpointing,
        processes=processes,
        across=reading.across,
        accumulate=reading.accumulate,
    )
    sizes = max(sizes_of(run, processes), key=lambda one: one.tokens)
    names = [" and ".join(sorted({type(task).__name__ for task in lesson.tasks})) for lesson in run.lessons]
    stages = {f"{i}. {name}": lesson.steps for i, (name, lesson) in enumerate(zip(names, run.lessons, strict=True), start=1)}
    return plan_of(run.model.base if base is None else base, run.model.memory, sizes, work=work, device=device, stages=stages)


def sizes_of(run: RetrofitRun, processes: int = 1) -> tuple[Sizes, ...]:
    """What an update of each lesson reads: of its tasks that of most tokens, and pages as long as the longest beside them, since they are padded so.

    Examples:
        >>> from retain.retrofit import MemoryConfig
        >>> from retain.tasks import Letters, Pairs
        >>> from retain.training import Lesson
        >>> from retain.training.retrofit import Fitting, PageReading, RetrofitRun
        >>> lesson = Lesson(tasks=(Pairs(facts=3, asked=2, keys=Letters(2)),), steps=2)
        >>> run = RetrofitRun(model=Fitting(base="tiny", memory=MemoryConfig(memory={"heads": 2})), lessons=(lesson,), reading=PageReading(rows=4))
        >>> (sizes,) = sizes_of(run)
        >>> sizes.rows, sizes.asked
        (4, 2)
    """
    restraint = run.restraint
    rows = restraint.rows * processes * run.reading.accumulate if restraint.divergence else 0
    found = []
    for lesson in run.lessons:
        each = [replace(_measured(run, task), ordinary_rows=rows, ordinary_length=restraint.length) for task in lesson.tasks]
        found.append(max(each, key=lambda one: one.tokens))
    return tuple(found)


def _measured(run: RetrofitRun, task: AbstractPages) -> Sizes:
    rows = run.reading.rows
    pages: Sequence[Page] = [task.page(TRAINED + (run.seed << 44) + number) for number in range(min(rows, LOOKED_AT))]
    parts = max(len(page.parts) for page in pages)
    read = sum(max(len(page.parts[i]) for page in pages if i < len(page.parts)) for i in range(parts))
    questions = [question for page in pages for question in page.questions]
    asked = max(len(page.questions) for page in pages)
    answer = max(len(question.answer) for question in questions)
    whole = max(len(question.prompt) + len(question.answer) for question in questions)
    asked = asked if run.reading.asked is None else min(asked, run.reading.asked)
    return Sizes(rows=rows, read=read, parts=parts, asked=asked, question=whole - answer, answer=answer)


@contextmanager
def tokenizer_of(base: str) -> Generator[tuple[str, bool]]:
    """A name under which ``AutoTokenizer`` finds the base's tokenizer without asking the hub, and whether it is that one.

    Where it is not here, byte pairs of English stand in for it, as good as it to measure lengths with, by about a tenth.

    Examples:
        >>> with tokenizer_of("nowhere/at-all") as (name, own):
        ...     print(own)
        False
    """
    try:
        AutoTokenizer.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError):
        with TemporaryDirectory() as place:
            _stand_in().save_pretrained(place)
            yield place, False
        return
    yield base, True


@cache
def _stand_in() -> PreTrainedTokenizerFast:
    count, size = STAND_IN
    text = bytes(english(held_out=False).text[:size].numpy()).decode(errors="ignore")
    tokenizer = Tokenizer.from_str(BytePairs.train(text.splitlines(keepends=True), count).json)
    tokenizer.add_special_tokens(["<s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
