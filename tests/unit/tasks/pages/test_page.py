"""What holds of every kind of pages: the seed alone decides a page, and what is no page is refused."""

import random

import pytest
import torch

from retain.tasks import AbstractPages, CodePages, Continued, Corpus, Followed, HashHopPages, Page, Pairs, Question, TracingPages
from tests.unit.tasks.asking import BOOK, PAIRS
from tests.unit.tasks.pages.reading import fingerprint

BODY = "import json\nLIMIT = 20\n\n\ndef load(text):\n    return json.loads(text[:LIMIT])\n"
CODE = Corpus({f"{n}.py": BODY.replace("LIMIT", f"LIMIT{n}").encode() for n in range(20)})
PAGES: dict[str, AbstractPages] = {
    "pairs": Pairs(facts=(3, 30), asked=2),
    "pairs, byte pairs": Pairs(facts=(3, 30), asked=2, codec=PAIRS),
    "followed": Followed(pages=Pairs(facts=4), haystack=BOOK, length=(10, 200), part=50),
    "hash hop": HashHopPages(hops=2, letters=4, chains=(4, 20), asked=2),
    "hash hop thinking, byte pairs": HashHopPages(hops=3, letters=4, chains=5, thought=True, codec=PAIRS),
    "tracing": TracingPages(hops=2, reassigned=1, length=400, asked=2),
    "tracing python, byte pairs": TracingPages(hops=2, arithmetic=True, syntax="python", length=300, codec=PAIRS),
    "code": CodePages(corpus=CODE, length=40, context=20, asked=2),
    "continued, byte pairs": Continued(book=BOOK, length=100, part=30, scored=20, codec=PAIRS),
}
PINNED = {
    "pairs": "3e9a35ad381b3091",
    "pairs, byte pairs": "20d2e13b98d880f4",
    "followed": "16264734a8a59694",
    "hash hop": "087e6b595d43d83e",
    "hash hop thinking, byte pairs": "5c297804bbcc9ade",
    "tracing": "07faffb4cb61da52",
    "tracing python, byte pairs": "1cb4b3b844cd321d",
    "code": "2da4dc4c1ef32407",
    "continued, byte pairs": "b2eaaeea97520793",
}
QUESTION = Question(torch.tensor([1]), torch.tensor([2]), {})


@pytest.mark.parametrize("name", PAGES)
def test_a_seed_gives_the_same_page_on_every_machine(name: str) -> None:
    assert fingerprint(PAGES[name].page(7)) == PINNED[name]


@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES)
def test_nothing_but_the_seed_decides_a_page(pages: AbstractPages) -> None:
    before = [fingerprint(page) for page in pages.batch(range(6))]
    random.seed(4)
    torch.manual_seed(4)
    assert [fingerprint(pages.page(seed)) for seed in reversed(range(6))] == before[::-1]
    assert len(set(before)) == 6


@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES)
def test_tokens_are_in_the_vocabulary(pages: AbstractPages) -> None:
    for page in pages.batch(range(6)):
        streams = [*page.parts, *(part for question in page.questions for part in (question.prompt, question.answer))]
        assert all(stream.dtype == torch.long for stream in streams)
        assert max(int(stream.max()) for stream in streams if len(stream)) < pages.vocab_size


def test_farther_moves_distances_alone() -> None:
    question = Question(torch.tensor([1]), torch.tensor([2]), {"hops": 2, "distance": 5, "distance_1": 9, "place": 3})
    assert question.farther(10).facts == {"hops": 2, "distance": 15, "distance_1": 19, "place": 3}


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Question(torch.tensor([1]), torch.zeros(0, dtype=torch.long), {})
    for parts, questions, message in (
        ((), (QUESTION,), r"got parts of \[\] tokens and 1 questions"),
        ((torch.tensor([1]), torch.zeros(0, dtype=torch.long)), (QUESTION,), r"parts of \[1, 0\] tokens"),
        ((torch.tensor([1]),), (), "0 questions"),
    ):
        with pytest.raises(ValueError, match=message):
            Page(parts, questions, {})
