"""Retrofits that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from retain.retrofit import MemoryConfig
from retain.tasks import TRAINED_FORMATS, AbstractPages, Codec, Continued, Followed, HashHopPages, Hosted, Pairs, TracingPages, Vocabulary
from retain.tasks.pages.exams import english, exam

from ..recipes import made_by
from ..run import Lesson
from .run import Fitting, PageReading, Restraint, RetrofitRun

RECALLING: dict[str, Any] = {
    "preset": "gated_delta_net",
    "heads": 9,
    "head_dim": 64,
    "projections": {"conv": 4, "activation": None, "start": "recall"},
    "output": {"norm": None, "gate": None},
    "gates": {"curve": "hard", "lr": 0.9, "forget": 1e-4},
}
"""A matrix memory whose answer is read off as it is, with gates that can shut to an exact zero."""


LATE = MemoryConfig(layers=(-7,), memory=RECALLING, values="embedding", features="centred", refine=0, strength=0.6)
"""One such memory, about three quarters of the way up."""

WIDE: dict[str, Any] = {**RECALLING, "heads": 4, "head_dim": 192}
"""The same with longer keys, since a head forgets as it writes more tokens than its keys have places."""


def words(base: str) -> RetrofitRun:
    """Pairs of words in one wording: the smallest thing that only a memory can carry across a cut, in a few minutes."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    pairs = Pairs(facts=31, asked=24, formats=TRAINED_FORMATS[:1], keys=known_words(codec), codec=codec)
    return RetrofitRun(
        model=Fitting(base=base, memory=LATE, start="recall"),
        lessons=(Lesson(tasks=(pairs,), steps=75),),
        restraint=Restraint(text=english(held_out=False), codec=codec),
        reading=PageReading(rows=16, asked=8, pool=288, precision="bf16"),
    )


def many(base: str) -> RetrofitRun:
    """Up to 128 pairs in one wording, for which a head needs longer keys."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    pairs = Pairs(facts=(24, 128), asked=24, formats=TRAINED_FORMATS[:1], keys=known_words(codec), codec=codec)
    return RetrofitRun(
        model=Fitting(base=base, memory=replace(LATE, memory=WIDE), start="recall", calibrated=16),
        lessons=(Lesson(tasks=(pairs,), steps=90),),
        restraint=Restraint(text=english(held_out=False), codec=codec, divergence=3.0, write_cost=0.3, margin=0.5),
        reading=PageReading(rows=8, asked=16, pool=180, precision="bf16"),
    )


def lasting(base: str) -> RetrofitRun:
    """A few pairs in one wording, and much English behind them, of which nearly nothing may be written.

    Parts are short in training, since it is where they begin that gates must learn to stay shut: what is read there has no words before it, as pairs have none.
    """
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    pairs = Pairs(facts=(8, 16), asked=8, formats=TRAINED_FORMATS[:1], keys=known_words(codec), codec=codec)
    followed = Followed(pages=pairs, haystack=english(held_out=False), length=(256, 2048), part=40, codec=codec)
    return RetrofitRun(
        model=Fitting(base=base, memory=replace(LATE, memory=WIDE), start="recall", calibrated=16),
        lessons=(Lesson(tasks=(pairs,), steps=30, write_cost=0.05), Lesson(tasks=(followed,), steps=200)),
        restraint=Restraint(text=english(held_out=False), codec=codec, divergence=3.0, write_cost=6.0, margin=1.0),
        reading=PageReading(rows=8, pool=160, precision="bf16"),
    )


def recall(base: str) -> RetrofitRun:
    """Up to 128 pairs in a dozen wordings, and pairs with English behind them, which must be neither written nor forgotten for."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    few, many = (Pairs(facts=facts, asked=facts[0], keys=known_words(codec), codec=codec) for facts in ((8, 16), (24, 128)))
    followed = Followed(pages=few, haystack=english(held_out=False), length=(256, 1024), part=256, codec=codec)
    return RetrofitRun(
        model=Fitting(base=base, memory=replace(LATE, memory=WIDE), start="recall", calibrated=16),
        lessons=(Lesson(tasks=(many,), steps=60, write_cost=0.1), Lesson(tasks=(many, followed), steps=140)),
        restraint=Restraint(text=english(held_out=False), codec=codec, divergence=3.0, write_cost=3.0, margin=0.5),
        reading=PageReading(rows=8, asked=16, pool=480, precision="bf16"),
    )


def hashes(base: str) -> RetrofitRun:
    """Hash-Hop with hashes of four letters: one hop in Magic's wording, and up to four with the hashes on the way in a bare one."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    made: dict[str, Any] = {"letters": 4, "asked": 3, "codec": codec}
    magic = HashHopPages(hops=1, chains=(7, 24), **made)
    bare = [HashHopPages(hops=n, chains=(max(3, 6 // n), 24 // n), thought=n > 1, wording="bare", **made) for n in (1, 2, 4)]
    memory = replace(LATE, memory={**WIDE, "projections": {**WIDE["projections"], "conv": 7}})
    return RetrofitRun(
        model=Fitting(base=base, memory=memory, start="recall", lags=(0.3, 1.0, 1.0, 0.7, 0.5, 0.3), calibrated=16),
        lessons=(Lesson(tasks=(magic, bare[0]), steps=80), Lesson(tasks=(magic, *bare[1:]), steps=80)),
        restraint=Restraint(text=english(held_out=False), codec=codec),
        reading=PageReading(rows=16, pool=640, precision="bf16"),
    )


def tracing(base: str) -> RetrofitRun:
    """Programs whose variables are asked for over one hop, with a second memory further down, whose answer refines the later one's queries."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    pages = TracingPages(hops=1, length=192, asked=4, codec=codec)
    memory = replace(LATE, memory={**WIDE, "projections": {**WIDE["projections"], "conv": 7}}, layers=(-13, -7), refine=32)
    return RetrofitRun(
        model=Fitting(base=base, memory=memory, start="recall", lags=(0.3, 1.0, 1.0, 0.7, 0.5, 0.3), calibrated=16),
        lessons=(Lesson(tasks=(pages,), steps=150),),
        restraint=Restraint(text=english(held_out=False), codec=codec),
        reading=PageReading(rows=16, pool=480, precision="bf16"),
    )


def code(base: str) -> RetrofitRun:
    """Real code: how modules go on behind a cut, of which 1,024 tokens were read in two parts. Each page is read once: pages that come again are learnt by heart."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    texts = exam("text-code", codec, held_out=False)
    assert isinstance(texts, Continued)
    return RetrofitRun(
        model=Fitting(base=base, memory=replace(LATE, memory=WIDE), start="recall", calibrated=16),
        lessons=(Lesson(tasks=(replace(texts, length=1024, scored=256),), steps=120),),
        restraint=Restraint(text=english(held_out=False), codec=codec),
        reading=PageReading(rows=4, pool=480, precision="bf16"),
    )


STAGES: tuple[tuple[str, ...], ...] = (
    ("hash-hop-1",),
    ("hash-hop-2", "hash-hop-2-thought"),
    ("hash-hop-3", "hash-hop-3-thought"),
    ("hash-hop-4", "hash-hop-4-thought"),
    ("tracing-1", "tracing-2"),
    ("tracing-3", "tracing-4"),
    ("code", "text-code"),
)
"""What each lesson of the curriculum adds, as ``exam`` calls it."""


def curriculum(base: str) -> RetrofitRun:
    """Hash-Hop from one hop to four, with and without the hashes on the way; then the same in programs; then real code.

    A lesson ends when nearly all answers are right. What it adds is drawn every other time; else it is pairs, or something of the lessons before.
    """
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    pairs: AbstractPages = Pairs(facts=(8, 64), asked=8, keys=known_words(codec), codec=codec)
    lessons, known = list[Lesson[AbstractPages]](), [pairs]
    for number, names in enumerate(STAGES):
        new = [exam(name, codec, held_out=False) for name in names]
        tasks = (*(new[i % len(new)] for i in range(max(len(new), len(known)))), *known)
        last = number == len(STAGES) - 1
        lessons.append(Lesson(tasks=tasks, steps=2000 if last else 1000, promote_at=None if last else 0.95, patience=40))
        known += new
    return RetrofitRun(
        model=Fitting(base=base, memory=replace(LATE, layers=(-13, -10, -7), refine=8), start="recall"),
        lessons=tuple(lessons),
        restraint=Restraint(text=english(held_out=False), codec=codec, write_cost=0.1, margin=0.5),
        reading=PageReading(rows=16, asked=4, precision="bf16"),
    )


def known_words(codec: Codec) -> Vocabulary:
    """The words to train on."""
    return Vocabulary.of(codec).split()[0]


RECIPES: dict[str, Callable[[str], RetrofitRun]] = {
    "words": words,
    "many": many,
    "lasting": lasting,
    "recall": recall,
    "hashes": hashes,
    "tracing": tracing,
    "code": code,
    "curriculum": curriculum,
}
"""What makes a run for a base model, by name."""


def recipe(name: str, base: str) -> RetrofitRun:
    """The run of that name for a base model, or the one that the function ``run`` of a Python file makes of the base.

    Raises:
        ValueError: There is no such name or file, or the file has no such function.
        OSError: The base's tokenizer is not there.
    """
    if name in RECIPES:
        return RECIPES[name](base)
    if not Path(name).is_file():
        raise ValueError(
            f"there is no recipe {name!r} and no such file; choose {', '.join(RECIPES)}, or write a Python file with `def run(base) -> RetrofitRun`."
        )
    return made_by(Path(name), RetrofitRun, base)
