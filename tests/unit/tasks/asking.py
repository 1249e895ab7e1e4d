"""How the tests put a sample to a reference solver, and the tasks that every law of tasks is tried on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from retain.tasks import (
    MQAR,
    AnBn,
    Book,
    BytePairs,
    Bytes,
    Codec,
    Distractors,
    EvenCopies,
    Facts,
    ForgettingMQAR,
    HashHop,
    LanguageModelling,
    Needle,
    Noise,
    Parity,
    S3Word,
    Sample,
    Translation,
    VariableTracing,
)
from retain.tasks.task import AbstractTask

PROSE = "It was a dim morning; 17 men stood in line = 4 deep, and no one said a word.\nThe door of the house at no. 231 was shut.\n"
BOOK = Book.of("".join(f"Chapter {n}. {PROSE}" for n in range(400)))
PAIRS = BytePairs.train([PROSE * 3, "The pass key for bakoti is 48213.\nMary moved to the kitchen.\n" * 20], vocab_size=330)

TEXT_TASKS: dict[str, Any] = {
    "passkey": Needle(length=700, needles=3, rebound=2, distractors=Distractors(lookalikes=4.0)),
    "number": Needle(kind="number", length=900, needles=2, haystack=BOOK),
    "word": Needle(kind="word", length=900, haystack=Noise()),
    "hash hop": HashHop(hops=3, letters=4, length=500, queries=2),
    "hash hop thinking": HashHop(hops=2, letters=6, length=400, thought=True),
    "variables": VariableTracing(hops=3, reassigned=3, length=600),
    "python": VariableTracing(hops=2, reassigned=2, arithmetic=True, syntax="python", length=500),
    "one fact": Facts(events=6, length=600),
    "two facts": Facts(supporting=2, events=9, length=800, haystack=BOOK),
    "language": LanguageModelling(book=BOOK, length=200),
}
TASKS: dict[str, AbstractTask] = {
    **TEXT_TASKS,
    **{f"{name}, byte pairs": replace(task, codec=PAIRS) for name, task in TEXT_TASKS.items()},
    "recall": MQAR(pairs=6, vocabulary=20, length=64, gap=5),
    "noisy recall": MQAR(pairs=6, queries=3, vocabulary=20, length=64, gap=5, filler="noise", power=1.0),
    "forgetting": ForgettingMQAR(recall=MQAR(pairs=6, vocabulary=20, length=64, gap=5, filler="noise"), rebinds=5),
    "translation": Translation(languages=3, asked=1, words=5, shown=2, queries=3, foreign=20, meanings=6),
    "parity": Parity(shortest=2, longest=12),
    "parity of the word": Parity(shortest=2, longest=12, asks="last"),
    "S3": S3Word(shortest=2, longest=12),
    "S3 of the word": S3Word(shortest=2, longest=12, asks="last"),
    "(aa)*": EvenCopies(longest=12),
    "(abab)* of the word": EvenCopies(unit="ab", longest=12, asks="last"),
    "a^n b^n": AnBn(longest=20),
    "a^n b^n c^n": AnBn(letters=3, longest=20),
}


def fingerprint(sample: Sample) -> str:
    """A hash of all that a sample holds."""
    parts = (sample.tokens.tolist(), sample.asked.tolist(), sample.answers.tolist(), sorted(sample.facts.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def parts_of(sample: Sample, codec: Codec | None = None) -> tuple[str, str]:
    """The text before the first asked token, and the text of the asked tokens behind it."""
    first = int(sample.asked.int().argmax())
    assert bool(sample.asked[first:].all()), "the answer is in pieces"
    codec = codec or Bytes()
    return codec.decode(sample.tokens[:first].tolist()), codec.decode(sample.tokens[first:].tolist())


def check_solved(task: Any, solve: Callable[[str], str], seeds: Iterable[int]) -> None:
    """Whether ``solve`` gives the answer of each sample from its text alone."""
    wrong = []
    for seed in seeds:
        context, answer = parts_of(task.sample(seed), task.codec)
        if solve(context) != answer.strip():
            wrong.append((seed, context[-80:], solve(context), answer))
    assert not wrong


def hits(solve: Callable[[str], str], texts: Sequence[tuple[str, str]]) -> float:
    """How often ``solve`` is right on contexts and their answers."""
    return sum(solve(context) == answer.strip() for context, answer in texts) / len(texts)


def check_even(drawn: Iterable[Any], kinds: int) -> None:
    """Whether draws fall on all of ``kinds`` things evenly: Pearson's statistic lies within six deviations of its mean."""
    counts = Counter(drawn)
    mean = sum(counts.values()) / kinds
    assert mean >= 5, "too few draws to tell"
    statistic = sum((count - mean) ** 2 / mean for count in counts.values()) + (kinds - len(counts)) * mean
    assert statistic < kinds - 1 + 6 * (2 * (kinds - 1)) ** 0.5, counts
