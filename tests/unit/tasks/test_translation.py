"""Translation: what a word means follows from the language that it was shown in, and from nothing else."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from retain.tasks import Translation
from tests.unit.tasks.asking import check_even

SIZES = [
    Translation(),
    Translation(languages=1, words=128, queries=1),
    Translation(languages=3, asked=1, words=4, shown=3, gap=0, foreign=12, meanings=2),
    Translation(languages=2, asked=1, words=6, queries=4, gap=5, foreign=40, meanings=7),
]


@pytest.mark.parametrize("task", SIZES, ids=str)
def test_a_reader_of_the_asked_language_alone_answers_all_and_one_of_the_others_nothing(task: Translation) -> None:
    stretch = 2 * task.words * task.shown
    for seed in range(20):
        sample = task.sample(seed)
        tokens = sample.tokens.tolist()
        lexicons = [dict(zip(part[::2], part[1::2], strict=True)) for part in (tokens[i * stretch :][:stretch] for i in range(task.languages))]
        first = task.languages * stretch
        assert tokens[first : first + task.gap] == [0] * task.gap
        quiz = tokens[first + task.gap :]
        words, meanings = quiz[::2], quiz[1::2]
        assert sample.asked.nonzero().flatten().tolist() == list(range(first + task.gap + 1, len(tokens), 2))
        assert [lexicons[task.asked][word] for word in words] == meanings
        assert len(set(words)) == task.asked_words
        assert not any(word in lexicon for i, lexicon in enumerate(lexicons) if i != task.asked for word in words)
        assert sample.facts == {"languages": task.languages, "asked": task.asked, "since": task.languages - 1 - task.asked, "length": len(tokens)}


def test_each_showing_goes_through_all_words_in_an_order_of_its_own() -> None:
    task = Translation(words=8, shown=3)
    tokens = task.sample(3).tokens.tolist()
    for language in range(2):
        words = tokens[: 4 * 3 * 8][::2][language * 24 :][:24]
        showings = [words[i : i + 8] for i in (0, 8, 16)]
        assert set(Counter(words).values()) == {3}
        assert len({frozenset(showing) for showing in showings}) == 1
        assert len({tuple(showing) for showing in showings}) == 3


def test_the_same_seed_teaches_the_same_whichever_language_is_asked() -> None:
    first, second = (replace(Translation(words=8), asked=asked).sample(5).tokens[:32].tolist() for asked in (0, 1))
    assert first == second


def test_words_meanings_and_the_order_of_questions_are_even() -> None:
    task = Translation(words=4, foreign=10, meanings=5)
    samples = [task.sample(seed) for seed in range(200)]
    check_even((token for sample in samples for token in sample.tokens[sample.asked].tolist()), 5)
    check_even((token for sample in samples for token in sample.tokens[:16:2].tolist()), 10)
    check_even((sample.tokens[:8:2].tolist().index(int(sample.tokens[18])) for sample in samples), 4)
    assert (task.chance, task.vocab_size) == (1 / 5, 16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Translation(languages=0), "languages=0"),
        (lambda: Translation(words=0), "words=0"),
        (lambda: Translation(shown=0), "shown=0"),
        (lambda: Translation(meanings=1), "meanings=1"),
        (lambda: Translation(gap=-1), "gap=-1"),
        (lambda: Translation(asked=2), "0 to 1, one of the languages, got 2"),
        (lambda: Translation(asked=-1), "got -1"),
        (lambda: Translation(words=65), "130 at least, 65 words a language, got 128"),
        (lambda: Translation(queries=33), "1 to words=32, got 33"),
        (lambda: Translation(queries=0), "got 0"),
    ],
)
def test_what_cannot_be_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
