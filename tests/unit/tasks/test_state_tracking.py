"""State tracking: a machine that reads one letter at a time knows every answer, and no answer lies in the stream before it is asked."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from retain.tasks import S3, AnBn, EvenCopies, Parity, S3Word, Sample
from tests.unit.tasks.asking import check_even

WORDS = [
    Parity(shortest=1, longest=30),
    Parity(shortest=200, longest=220),
    S3Word(shortest=1, longest=30),
    EvenCopies(longest=9),
    EvenCopies(unit="ab", longest=9),
]


def solve_parity(word: list[int]) -> int:
    return word.count(1) % 2


def solve_s3(word: list[int]) -> int:
    """Move three cups about and see where each has come to be."""
    cups = [0, 1, 2]
    for element in word:
        cups = [S3[element][cup] for cup in cups]
    return S3.index((cups[0], cups[1], cups[2]))


def solve_even(unit: str, word: list[int]) -> int:
    text = "".join("ab"[letter] for letter in word)
    return int(text == 2 * unit * (len(text) // (2 * len(unit))))


def answer_of(task: Parity | S3Word | EvenCopies, word: list[int]) -> int:
    if isinstance(task, Parity):
        return solve_parity(word)
    return solve_s3(word) if isinstance(task, S3Word) else solve_even(task.unit, word)


@pytest.mark.parametrize("task", WORDS, ids=lambda task: type(task).__name__)
def test_every_prefix_is_answered(task: Parity | S3Word | EvenCopies) -> None:
    for seed in range(30):
        sample = task.sample(seed)
        tokens, answers = sample.tokens.tolist(), sample.answers.tolist()
        assert sample.asked.tolist() == [False] + [True] * (len(tokens) - 1)
        assert answers[1:] == [answer_of(task, tokens[:place]) for place in range(1, len(tokens))]
        end = 6 if isinstance(task, S3Word) else 2
        assert tokens.index(end) == len(tokens) - 1 == sample.facts["length"]


@pytest.mark.parametrize("task", WORDS, ids=lambda task: type(task).__name__)
def test_the_whole_word_is_answered_in_the_stream(task: Parity | S3Word | EvenCopies) -> None:
    build = {"unit": task.unit} if isinstance(task, EvenCopies) else {}
    last = type(task)(shortest=task.shortest, longest=task.longest, asks="last", **build)  # pyright: ignore[reportArgumentType]
    for seed in range(30):
        sample, every = last.sample(seed), task.sample(seed)
        assert sample.tokens.tolist() == [*every.tokens.tolist(), int(every.answers[-1])]
        assert sample.answers is sample.tokens
        assert sample.asked.nonzero().tolist() == [[len(sample.tokens) - 1]]


@pytest.mark.parametrize("letters", [2, 3])
def test_counting_the_first_letter_tells_the_rest(letters: int) -> None:
    task = AnBn(letters=letters, longest=15)  # pyright: ignore[reportArgumentType]
    for seed in range(40):
        sample = task.sample(seed)
        tokens = sample.tokens.tolist()
        n = tokens.index(1)
        for place in range(1, len(tokens)):
            asked = place > n
            assert bool(sample.asked[place]) == asked
            if asked:
                assert tokens[place] == place // n
        assert len(tokens) == letters * n + 1
        assert sample.facts == {"n": n, "length": letters * n}


def test_elements_are_the_group() -> None:
    assert len(set(S3)) == 6
    word = [1, 2, 3, 4, 5]
    samples = [S3Word(shortest=2, longest=2).sample(seed) for seed in range(400)]
    products = {tuple(sample.tokens[:2].tolist()): int(sample.answers[2]) for sample in samples}
    assert len(products) == 36
    assert any(products[a, b] != products[b, a] for a, b in pairwise(word))
    for a in range(6):
        assert products[a, 0] == products[0, a] == a
        assert {products[a, b] for b in range(6)} == set(range(6))
        for b in range(6):
            assert all(products[products[a, b], c] == products[a, products[b, c]] for c in range(6))


def test_lengths_are_even_over_their_range() -> None:
    for task in (Parity(shortest=3, longest=7), S3Word(shortest=3, longest=7)):
        check_even((task.sample(seed).facts["length"] for seed in range(200)), 5)
    check_even((EvenCopies(shortest=3, longest=7).sample(seed).facts["copies"] for seed in range(200)), 5)
    check_even((AnBn(shortest=3, longest=7).sample(seed).facts["n"] for seed in range(200)), 5)


def test_answers_are_even_so_that_a_guess_scores_chance() -> None:
    def answers(samples: list[Sample]) -> list[int]:
        return [int(sample.answers[-1]) for sample in samples]

    check_even(answers([Parity(longest=9).sample(seed) for seed in range(300)]), 2)
    check_even(answers([S3Word(longest=9).sample(seed) for seed in range(300)]), 6)
    check_even(answers([EvenCopies(longest=10, asks="last").sample(seed) for seed in range(300)]), 2)
    check_even(answers([EvenCopies(unit="ab", longest=10, asks="last").sample(seed) for seed in range(300)]), 2)


def test_always_saying_b_is_never_right_on_a_whole_word() -> None:
    for seed in range(30):
        sample = AnBn().sample(seed)
        assert sample.tokens[sample.asked].tolist() != [1] * int(sample.asked.sum())


@pytest.mark.parametrize("kind", [Parity, S3Word, EvenCopies, AnBn])
@pytest.mark.parametrize(("shortest", "longest"), [(0, 4), (5, 4)])
def test_an_empty_range_is_refused(kind: type, shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} needs 1 <= shortest <= longest, got shortest={shortest} and longest={longest}"):
        kind(shortest=shortest, longest=longest)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Parity(asks="first"), "Parity.asks must be 'every' or 'last', got 'first'"),  # pyright: ignore[reportArgumentType]
        (lambda: EvenCopies(unit="ba"), "EvenCopies.unit must be 'a' or 'ab', got 'ba'"),  # pyright: ignore[reportArgumentType]
        (lambda: AnBn(letters=4), "AnBn.letters must be 2 or 3, got 4"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_an_unknown_choice_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
