"""Followed pages: exactly so much text lies behind the inner page, and all distances count it."""

import pytest
import torch

from retain.tasks import BytePairs, Bytes, Followed, Letters, Pairs
from tests.unit.tasks.asking import BOOK, PAIRS, check_even
from tests.unit.tasks.pages.reading import check_places, text_of

INNER = {"bytes": Pairs(facts=(2, 9), asked=2), "pairs": Pairs(facts=(2, 9), asked=2, codec=PAIRS)}
CODECS = {"bytes": Bytes(), "pairs": PAIRS}


@pytest.mark.parametrize("part", [None, 1, 64, 100, 5000])
@pytest.mark.parametrize("codec", list(CODECS))
def test_the_text_is_of_the_exact_length_and_stands_behind_the_page(codec: str, part: int | None) -> None:
    pages = Followed(pages=INNER[codec], haystack=BOOK, length=300, part=part, codec=CODECS[codec])
    for seed in range(8):
        inner, page = INNER[codec].page(seed), pages.page(seed)
        behind = page.text[len(inner.text) :]
        assert torch.equal(page.text[: len(inner.text)], inner.text)
        assert len(behind) == page.facts["followed"] == 300
        assert page.facts["length"] == len(page.text)
        assert text_of(behind, CODECS[codec])[1:-1] in bytes(BOOK.text.repeat(2).numpy()).decode()
        if part is None:
            assert len(page.parts) == 1
        else:
            assert torch.equal(page.parts[0], inner.parts[0])
            assert [len(stretch) for stretch in page.parts[1:]] == [part] * (300 // part) + [300 % part] * (300 % part > 0)


@pytest.mark.parametrize("codec", list(CODECS))
def test_distances_count_the_text(codec: str) -> None:
    pages = Followed(pages=INNER[codec], haystack=BOOK, length=(50, 400), part=77, codec=CODECS[codec])
    for seed in range(20):
        inner, page = INNER[codec].page(seed), pages.page(seed)
        check_places(page)
        for before, after in zip(inner.questions, page.questions, strict=True):
            assert torch.equal(before.prompt, after.prompt)
            assert torch.equal(before.answer, after.answer)
            assert after.facts == {**before.facts, "distance": int(before.facts["distance"]) + int(page.facts["followed"])}


def test_lengths_of_a_range_are_even_in_octaves() -> None:
    pages = Followed(pages=Pairs(facts=1), length=(16, 255))
    lengths = [int(page.facts["followed"]) for page in pages.batch(range(300))]
    assert min(lengths) >= 16
    check_even((length.bit_length() for length in lengths), 4)


def test_followed_pages_are_pages_that_can_be_followed() -> None:
    pages = Followed(pages=Followed(pages=Pairs(facts=1, keys=Letters(2)), length=10), haystack=BOOK, length=7, part=7)
    page = pages.page(3)
    assert [len(part) for part in page.parts][1:] == [7]
    check_places(page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "Followed.length must be a number of 1 at least"),
        ({"length": (9, 3)}, r"got \(9, 3\)"),
        ({"part": 0}, "at least 1 token"),
        ({"codec": PAIRS}, "got one of 330 tokens for pages of 256"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, int | tuple[int, int] | BytePairs], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Followed(pages=Pairs(), **change)  # pyright: ignore[reportArgumentType]
