"""Exams: each name makes pages, and what is held out shares nothing with what is trained on."""

from __future__ import annotations

from typing import Any

import pytest

from retain.tasks import EXAMS, CodePages, Continued, Followed, HashHopPages, NeedlePages, Pairs, TracingPages, exam
from retain.tasks.pages import HELD_OUT_FORMATS, TRAINED_FORMATS
from tests.unit.tasks.pages.reading import check_places

WORDS = tuple(f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("ar", "el", "in", "or", "um") for c in ("a", "bo", "de", "ki") for _ in "x")
MANY = tuple(f"{word}{end}" for word in WORDS for end in ("", "lan", "mer", "nop", "qui", "ras", "sot", "tuv", "wex", "yaz", "zed"))


class Wordy:
    """Bytes, and 2640 words that are one token with the space before them."""

    words = tuple(f" {word}" for word in MANY)
    vocab_size = 256 + len(MANY)

    def __init__(self) -> None:
        self.numbers = {word: 256 + i for i, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        for i, piece in enumerate(text.replace("\n", "\n\0").replace(" ", "\0 ").split("\0")):
            word = piece.rstrip("\n.:;|?=")
            found = self.numbers.get(word) if i else None
            tokens += list(piece.encode()) if found is None else [found, *piece[len(word) :].encode()]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        return b"".join(bytes([token]) if token < 256 else self.words[token - 256].encode() for token in tokens).decode(errors="replace")


CODEC = Wordy()
SMALL = [name for name in EXAMS if "100k" not in name and "16k" not in name]


def test_the_codec_of_these_tests_is_one() -> None:
    text = f" {MANY[3]} = {MANY[7]}\nThe code of {MANY[5]} is {MANY[9]}.\n"
    assert CODEC.decode(CODEC.encode(text)) == text
    assert CODEC.encode(f" {MANY[3]}") == [256 + 3]


@pytest.mark.parametrize("name", SMALL)
def test_each_name_makes_pages_that_hold_their_answers(name: str) -> None:
    pages = exam(name, CODEC)
    page = pages.page(0)
    assert pages.vocab_size == CODEC.vocab_size
    assert max(int(tokens.max()) for tokens in (page.text, *(question.answer for question in page.questions))) < CODEC.vocab_size
    if not name.startswith(("text", "tracing", "code")) and not getattr(pages, "thought", False):
        check_places(page)


@pytest.mark.parametrize("name", ["pairs-31", "pairs-127", "formats", "followed-2k", "words-followed-2k"])
def test_held_out_words_are_not_among_the_trained_ones(name: str) -> None:
    trained, held_out = (exam(name, CODEC, held_out=side) for side in (False, True))
    sides: list[Any] = [pages.pages if isinstance(pages, Followed) else pages for pages in (trained, held_out)]
    words = [set(pages.keys.words) for pages in sides]
    assert not words[0] & words[1]
    assert len(words[1]) == round(0.2 * (len(words[0]) + len(words[1])))
    formats = TRAINED_FORMATS[:1] if name.startswith("words") else TRAINED_FORMATS
    assert sides[0].formats == formats
    assert sides[1].formats == (HELD_OUT_FORMATS if name == "formats" else formats)


@pytest.mark.parametrize("name", ["code", "text", "text-code", "needle-2k", "followed-2k"])
def test_held_out_works_are_not_among_the_trained_ones(name: str) -> None:
    def works(pages: Any) -> set[str]:
        if isinstance(pages, CodePages):
            return {path.split("/")[0].removesuffix(".py") for path in pages.corpus.works}
        book = pages.book if isinstance(pages, Continued) else pages.needle.haystack if isinstance(pages, NeedlePages) else pages.haystack
        return set(book.names)

    trained, held_out = (works(exam(name, CODEC, held_out=side)) for side in (False, True))
    assert trained
    assert held_out
    assert not trained & held_out


def test_names_say_what_they_stand_for() -> None:
    hops = exam("hash-hop-3-16-thought", CODEC)
    assert isinstance(hops, HashHopPages)
    assert (hops.hops, hops.letters, hops.thought, hops.wording) == (3, 16, True, "magic")
    bare = [exam(f"hash-hop-bare-{n}", CODEC) for n in (1, 2)]
    assert [(one.hops, one.thought, one.wording) for one in bare if isinstance(one, HashHopPages)] == [(1, False, "bare"), (2, True, "bare")]
    tracing, pairs, followed, needle = (exam(name, CODEC) for name in ("tracing-4", "pairs-127", "followed-16k", "needle-100k"))
    assert isinstance(tracing, TracingPages)
    assert isinstance(pairs, Pairs)
    assert isinstance(followed, Followed)
    assert isinstance(needle, NeedlePages)
    assert (tracing.hops, pairs.facts, followed.length, needle.needle.length) == (4, 127, 16384, 102400)


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="no pages called 'quark'; there are words-31, words-127, pairs-31, pairs-127, formats"):
        exam("quark", CODEC)
