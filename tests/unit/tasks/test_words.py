"""Words: each is one token behind a space, no word is missing, and what is held out is never trained on."""

import random

import pytest

from retain.tasks import BytePairs, Bytes, Letters, Vocabulary, Words
from tests.unit.tasks.asking import PAIRS, check_even

TEXT = "the milk is in the kitchen and the salt lies beside the bread\n" * 9
CODEC = BytePairs.train([TEXT], vocab_size=292)


@pytest.mark.parametrize("codec", [PAIRS, CODEC], ids=["pairs", "kitchen"])
def test_the_vocabulary_is_exactly_the_words_that_are_one_token(codec: BytePairs) -> None:
    words = Vocabulary.of(codec).words
    assert all(len(codec.encode(f" {word}")) == 1 and word.isalpha() and word.islower() and len(word) > 2 for word in words)
    texts = {codec.decode([token]) for token in range(codec.vocab_size)}
    one_token = {text[1:] for text in texts if text[:1] == " " and len(text) > 3 and text[1:].isascii() and text[1:].isalpha() and text[1:].islower()}
    assert set(words) == {word for word in one_token if len(codec.encode(f" {word}")) == 1}
    assert len(words) > 3


def test_the_sides_of_a_split_share_no_word_and_lose_none() -> None:
    words = Vocabulary(tuple(Letters(3).draw(random.Random(seed)) + str(seed) for seed in range(101)))
    trained, held_out = words.split(0.2)
    assert (trained.count, held_out.count) == (81, 20)
    assert set(trained.words) | set(held_out.words) == set(words.words)
    assert Vocabulary(words.words[::-1]).split(0.2) == (trained, held_out)
    assert words.split(0.2, seed=1) != (trained, held_out)


def test_draws_are_even() -> None:
    dice, words = random.Random(5), Vocabulary(("milk", "salt", "oil", "bread"))
    check_even((words.draw(dice) for _ in range(400)), words.count)
    check_even((Letters(1).draw(dice) for _ in range(2000)), Letters(1).count)
    assert Letters(20).count == 52**20


def test_both_kinds_are_words() -> None:
    sources: list[Words] = [Letters(2), Vocabulary(("milk",))]
    assert [source.count for source in sources] == [2704, 1]


def test_what_cannot_be_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"no word that is one token .* Letters\(4\)"):
        Vocabulary.of(Bytes())
    with pytest.raises(ValueError, match="got 2 of which 1 differ"):
        Vocabulary(("milk", "milk"))
    with pytest.raises(ValueError, match="got 0 of which 0 differ"):
        Vocabulary(())
    with pytest.raises(ValueError, match=r"holds out 0 words of 2"):
        Vocabulary(("milk", "salt")).split(0.2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Letters(0)
