"""The haystacks: where the needle is, what is asked, and what is not in them."""

import random

import pytest
import torch

from retain.demo import needle
from retain.demo.corpus import Book
from retain.demo.needle import DIGITS, MARK, Needle

BOOK = Book(("lorem",), torch.tensor(list(b"for x in range(10):\n    total = 12345\n" * 40), dtype=torch.uint8))


def text_of(tensor: torch.Tensor) -> str:
    return bytes(tensor.to(torch.uint8).numpy()).decode()


@pytest.mark.parametrize("length", [41, 64, 700, 5000])
def test_one_line_is_hidden_and_asked_for(length: int) -> None:
    dice = random.Random(length)
    for _ in range(20):
        hay = needle.hide(BOOK, max(length, len(Needle("aaaa", "00000").line) + len(Needle("aaaa", "00000").question)), dice)
        text = text_of(hay.text)
        assert text.endswith(hay.needle.question)
        assert text.count(hay.needle.line) == 1
        assert text.count(MARK) == 2
        assert 0 <= hay.depth <= 1


def test_depths_are_even_and_unaligned() -> None:
    dice = random.Random(0)
    drawn = [needle.hide(BOOK, 4096, dice) for _ in range(300)]
    depths = torch.tensor([one.depth for one in drawn])
    assert abs(float(depths.mean()) - 0.5) < 0.06
    assert torch.histc(depths, 5, 0, 1).min() > 35
    places = {text_of(one.text).index(one.needle.line) % 32 for one in drawn}
    assert len(places) > 28


def test_a_lesson_ends_with_its_answer() -> None:
    for row in needle.lesson(BOOK, 128, 8, random.Random(3)):
        text = text_of(row)
        assert len(text) == 128
        line = text[text.index(MARK) :].splitlines()[0]
        assert text.endswith("\n" + line)
        assert line[-DIGITS:].isdigit()


def test_chaff_holds_no_mark() -> None:
    rows = [text_of(row) for row in needle.chaff(BOOK, 256, 50, random.Random(5))]
    assert not any(MARK in row for row in rows)
    assert any("\n@" in row for row in rows)


def test_a_haystack_too_short_is_refused_with_the_least_length() -> None:
    with pytest.raises(ValueError, match=r"at least \d+ bytes.*length=20"):
        needle.hide(BOOK, 20, random.Random(0))
