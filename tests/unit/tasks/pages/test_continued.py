"""Continued text: parts and answer are one stretch of the book."""

from typing import Any

import pytest
import torch

from retain.tasks import BytePairs, Bytes, Continued, LanguageModelling
from tests.unit.tasks.asking import BOOK, PAIRS, check_even
from tests.unit.tasks.pages.reading import text_of


@pytest.mark.parametrize("part", [None, 64, 100])
@pytest.mark.parametrize("codec", [Bytes(), PAIRS], ids=["bytes", "pairs"])
def test_the_answer_is_how_the_text_goes_on(codec: Bytes | BytePairs, part: int | None) -> None:
    pages = Continued(book=BOOK, length=200, part=part, scored=50, codec=codec)
    whole = bytes(BOOK.text.repeat(2).numpy()).decode()
    for page in pages.batch(range(10)):
        (question,) = page.questions
        assert (len(page.text), len(question.prompt), len(question.answer)) == (200, 0, 50)
        assert [len(stretch) for stretch in page.parts] == {None: [200], 64: [64, 64, 64, 8], 100: [100, 100]}[part]
        text = text_of(torch.cat([page.text, question.answer]), codec)
        assert whole[int(page.facts["offset"]) :].startswith(text)


def test_windows_begin_anywhere() -> None:
    offsets = [int(page.facts["offset"]) for page in Continued(book=BOOK, length=8, scored=2).batch(range(200))]
    check_even((offset * 8 // len(BOOK) for offset in offsets), 8)
    assert LanguageModelling(book=BOOK).sample(0).facts["offset"] != offsets[0]


@pytest.mark.parametrize("sizes", [{"length": 0}, {"scored": 0}, {"part": 0}, {"part": -1}])
def test_sizes_of_nothing_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Continued needs length, scored and part of 1 at least"):
        Continued(book=BOOK, **sizes)
