"""Haystacks: as much text as asked for, drawn evenly; and lines hidden in it."""

import random
import time

import pytest
import torch

from retain.tasks import Book, Bytes, Haystack, Noise, Repeated
from retain.tasks.haystack import NOISE_LETTERS, distinct, hide, made_up
from tests.unit.tasks.asking import BOOK, PAIRS, check_even

HAYS: list[Haystack] = [Noise(), Noise(of="bytes"), Repeated(), Repeated("x"), BOOK, Book.of("short")]


def text_of(bytes_: torch.Tensor) -> str:
    return bytes(bytes_.to(torch.uint8).numpy()).decode()


@pytest.mark.parametrize("hay", HAYS, ids=["words", "bytes", "ruler", "x", "book", "short"])
@pytest.mark.parametrize("length", [0, 1, 5, 6, 91, 100_003])
def test_as_many_bytes_are_drawn_as_asked_for(hay: Haystack, length: int) -> None:
    drawn = hay.draw(length, random.Random(4))
    assert len(drawn) == length
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn, hay.draw(length, random.Random(4)))
    assert text_of(drawn).isascii()


def test_noise_is_even() -> None:
    words = text_of(Noise().draw(60_000, random.Random(0))).split()
    check_even(words, 256)
    assert {len(word) for word in words} == {5}
    check_even(text_of(Noise(of="bytes").draw(60_000, random.Random(0))), len(NOISE_LETTERS))


def test_repetition_and_books_begin_anywhere() -> None:
    for hay, length in ((Repeated("0123456789"), 10), (Book.of("0123456789"), 10)):
        starts = [text_of(hay.draw(25, random.Random(seed))) for seed in range(300)]
        check_even((start[0] for start in starts), length)
        assert all(text in "0123456789" * 4 for text in starts)


def test_a_window_of_a_book_goes_round_its_end() -> None:
    book = Book.of("abcde")
    assert text_of(book.window(3, 9)) == "deabcdeab"
    assert text_of(book.window(12, 2)) == "cd"
    assert text_of(book.window(4, 1)) == "e"
    assert text_of(book.window(0, 0)) == ""
    assert len(book) == 5


@pytest.mark.parametrize("codec", [Bytes(), PAIRS], ids=["bytes", "pairs"])
def test_lines_stand_in_their_order_at_their_starts(codec: Bytes) -> None:
    lines = [codec.encode(f"\nline {i}: {'x' * i}\n") for i in range(7)]
    for seed in range(20):
        hidden = hide(BOOK, lines, 700, codec, random.Random(seed))
        assert len(hidden.tokens) == 700
        assert list(hidden.starts) == sorted(hidden.starts)
        for line, start in zip(lines, hidden.starts, strict=True):
            assert hidden.tokens[start : start + len(line)].tolist() == line


def test_what_is_around_the_lines_is_one_stretch_of_hay() -> None:
    hidden = hide(Book.of("abcdefghij"), [[0, 0], [0]], 50, Bytes(), random.Random(1))
    hay = text_of(hidden.tokens[hidden.tokens != 0])
    assert len(hay) == 47
    assert hay in "abcdefghij" * 6


def test_lines_that_fill_the_length_need_no_hay() -> None:
    assert hide(Repeated(), [[1], [2, 3]], 3, Bytes(), random.Random(0)).tokens.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="2 tokens have no room for lines of 3"):
        hide(Repeated(), [[1], [2, 3]], 2, Bytes(), random.Random(0))


def test_places_are_even() -> None:
    first = [hide(Repeated(), [[0]], 11, Bytes(), random.Random(seed)).starts[0] for seed in range(400)]
    check_even(first, 11)


def test_made_up_words_are_even_and_distinct_ones_differ() -> None:
    dice = random.Random(0)
    check_even((made_up(1, dice) for _ in range(2000)), 80)
    words = distinct(lambda: made_up(1, dice), 79, avoid=["ba"])
    assert len(set(words)) == 79
    assert "ba" not in words


def test_ten_million_bytes_are_quick() -> None:
    start = time.process_time()
    for hay in (Noise(), Noise(of="bytes"), Repeated(), BOOK):
        assert len(hay.draw(10_000_000, random.Random(0))) == 10_000_000
    assert time.process_time() - start < 3


def test_what_cannot_be_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        Repeated("")
    with pytest.raises(ValueError, match="at least one byte"):
        Book.of("")


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="'words' or 'bytes', got 'pink'"):
        Noise(of="pink")  # pyright: ignore[reportArgumentType]
