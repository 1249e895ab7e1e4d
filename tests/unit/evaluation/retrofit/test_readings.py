"""The five readings: each against the same answers asked one by one, with nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.evaluation.retrofit.readings import CUT, FOREIGN, FULL, MEMORY, OFF, Reply, replies
from retain.retrofit import MemoryCache, NoTokens, detach, disable_memory, writing
from retain.tasks import AbstractPages, Page, Pairs, Question
from tests.unit.evaluation.retrofit.small import START, Digits, read, scores, small

NOTHING = torch.zeros(0, dtype=torch.long)


def alone(model: Any, reading: str, reply: Reply, neighbour: int) -> Tensor:
    page = Digits().page(reply.seed)
    question = page.questions[reply.number]
    if reading in (FULL, CUT):
        with disable_memory(model):
            return scores(model, question, page.text if reading == FULL else NOTHING, None)
    if reading == OFF:
        with writing(model, NoTokens()):
            return scores(model, question, NOTHING, read(model, page))
    return scores(model, question, NOTHING, read(model, page if reading == MEMORY else Digits().page(neighbour)))


@torch.no_grad()
def test_each_reading_is_what_it_says() -> None:
    """Four pages in one batch of four; the neighbour of the last is the first."""
    model = small()
    found = replies(model, Digits(), [3, 4, 5, 6], start=[START], batch=4)
    assert [(reply.seed, reply.number) for reply in found] == [(seed, number) for seed in (3, 4, 5, 6) for number in (0, 1)]
    model.eval()
    neighbours = {3: 4, 4: 5, 5: 6, 6: 3}
    seen: dict[str, list[float]] = {}
    for reply in found:
        for reading, told in reply.told.items():
            logits = alone(model, reading, reply, neighbours[reply.seed])
            assert told is not None
            torch.testing.assert_close(told.loss.double(), F.cross_entropy(logits, reply.question.answer, reduction="none"), rtol=1e-5, atol=1e-5)
            assert told.said.tolist() == logits.argmax(-1).tolist()
            seen.setdefault(reading, []).append(float(told.loss.sum()))
    every = [round(sum(losses), 4) for losses in seen.values()]
    assert len(set(every)) == 5, "five readings of a model whose memories do something are five different ones"


def test_facts_are_those_of_the_page_and_of_the_question() -> None:
    first, second, *_ = replies(small(), Digits(), [0, 1], start=[START])
    assert (first.facts, second.facts) == ({"length": 9, "distance": 9, "place": 0}, {"length": 9, "distance": 7, "place": 1})


def test_the_model_is_left_as_it_was() -> None:
    model = small()
    model.model.layers[0].eval()
    before = [(module.training, name) for name, module in model.named_modules()]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    replies(model, Digits(), range(3), start=[START], batch=2)
    assert [(module.training, name) for name, module in model.named_modules()] == before
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()


def test_the_same_again_is_the_same_to_the_last_bit() -> None:
    model = small()
    once, again = (replies(model, Digits(), range(4), start=[START], batch=2) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        for reading in one.told:
            assert torch.equal(one.told[reading].loss, other.told[reading].loss)  # pyright: ignore[reportOptionalMemberAccess]


def test_no_page_is_left_alone() -> None:
    """Three pages in twos are read as three: the neighbour of the last is the first."""
    model = small()
    twos, threes = (replies(model, Digits(), range(3), start=[START], batch=batch) for batch in (2, 3))
    for one, other in zip(twos, threes, strict=True):
        assert torch.equal(one.told[FOREIGN].loss, other.told[FOREIGN].loss)  # pyright: ignore[reportOptionalMemberAccess]
    five = replies(model, Digits(), range(5), start=[START], batch=2)
    for one, other in zip(five[:4], replies(model, Digits(), range(2), start=[START]), strict=True):
        torch.testing.assert_close(one.told[FOREIGN].loss, other.told[FOREIGN].loss)  # pyright: ignore[reportOptionalMemberAccess]


def test_pages_beyond_the_context_of_the_base_are_read_by_memory_alone() -> None:
    """Begin, text, prompt and answer: 14 or 16 tokens with the first question, 11 or 13 with the second."""

    def fits(positions: int, full_context: int | None) -> list[bool]:
        found = replies(small(positions), Digits(), [0, 1], start=[START], full_context=full_context)
        assert all(reply.told[reading] is not None for reply in found for reading in (MEMORY, CUT, OFF, FOREIGN))
        return [reply.told[FULL] is not None for reply in found]

    assert fits(64, None) == [True] * 4
    assert fits(13, None) == [False, True, False, True]
    assert fits(64, 14) == [True, True, False, True]
    assert fits(64, 0) == [False] * 4


def test_progress_rises_from_nothing_to_all() -> None:
    told: list[tuple[float, str]] = []
    replies(small(), Digits(), range(5), start=[START], batch=2, progress=lambda share, words: told.append((share, words)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert told[0][1] == "page 1 of 5: memory"


class OneLongPart(Digits):
    def page(self, seed: int) -> Page:
        return Page((torch.zeros(64, dtype=torch.long),), (Question(NOTHING, torch.tensor([1]), {}),), {})


REFUSED: list[tuple[Callable[[Any], Any], AbstractPages, dict[str, Any], str]] = [
    (detach, Digits(), {}, "has no memories"),
    (lambda model: model, Digits(), {"seeds": [0]}, "two pages"),
    (lambda model: model, Digits(), {"seeds": [0, 0]}, "each seed once"),
    (lambda model: model, Digits(), {"batch": 1}, "batch=1"),
    (lambda model: model, Digits(), {"start": [21]}, r"start=\[21\]"),
    (lambda model: model, Digits(), {"full_context": -1}, "got -1"),
    (lambda model: model, Pairs(facts=2), {}, "knows 21 tokens; the pages have 256"),
    (lambda model: model, OneLongPart(), {}, "is 65 tokens long, and the model sees 64"),
]


@pytest.mark.parametrize(("make", "pages", "change", "message"), REFUSED, ids=[refused[-1] for refused in REFUSED])
def test_what_cannot_be_asked_is_refused(make: Callable[[Any], Any], pages: AbstractPages, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replies(make(small()), pages, **{"seeds": [0, 1], "start": [START], **change})


def test_a_cache_of_nothing_is_an_empty_memory() -> None:
    """What ``read`` begins from in these tests is what the model begins from."""
    model, page = small().eval(), Digits().page(0)
    empty, none = (scores(model, page.questions[0], NOTHING, cache) for cache in (MemoryCache(model.config), None))
    torch.testing.assert_close(empty, none)
