"""Retrofits that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AutoTokenizer

from retain.retrofit import MemoryConfig
from retain.tasks import TRAINED_FORMATS, Corpus, Hosted, Pairs, Vocabulary

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


def words(base: str) -> RetrofitRun:
    """Pairs of words in one wording: the smallest thing that only a memory can carry across a cut."""
    codec = Hosted(AutoTokenizer.from_pretrained(base))
    known, _ = Vocabulary.of(codec).split()
    memory = MemoryConfig(layers=(-7,), memory=RECALLING, values="embedding", features="centred", refine=0, strength=0.6)
    lesson = Lesson(tasks=(Pairs(facts=31, asked=24, formats=TRAINED_FORMATS[:1], keys=known, codec=codec),), steps=150)
    train, _ = Corpus.documentation().split(0.2)
    return RetrofitRun(
        model=Fitting(base=base, memory=memory, start="recall"),
        lessons=(lesson,),
        restraint=Restraint(text=train.book(), codec=codec),
        reading=PageReading(rows=16, asked=8, pool=288, precision="bf16"),
    )


RECIPES: dict[str, Callable[[str], RetrofitRun]] = {"words": words}
