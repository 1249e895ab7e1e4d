"""Needle pages: the hay of the task, cut, and its questions one by one."""

from __future__ import annotations

import re

import pytest
import torch

from retain.tasks import Distractors, Needle, NeedlePages
from tests.unit.tasks.asking import BOOK, PAIRS
from tests.unit.tasks.pages.reading import check_places, text_of

NEEDLES = [
    Needle(length=300),
    Needle(kind="number", needles=4, questions=3, rebound=2, length=1200, haystack=BOOK),
    Needle(kind="word", needles=3, questions=2, length=900, codec=PAIRS, distractors=Distractors(lookalikes=9.0, misspelt=9.0)),
]


@pytest.mark.parametrize("needle", NEEDLES, ids=["passkey", "numbers", "words"])
def test_the_last_line_that_says_what_the_question_says_holds_the_answer(needle: Needle) -> None:
    pages = NeedlePages(needle=needle, part=64)
    for page in pages.batch(range(20)):
        text = text_of(page.text, needle.codec)
        for question in page.questions:
            prompt, answer = (text_of(tokens, needle.codec) for tokens in (question.prompt, question.answer))
            assert re.findall(re.escape(prompt) + r"( ?\w+)\.", text + ".")[-1] == answer
            assert question.facts["depth"] == pytest.approx(_begins(page.text, question.prompt) / len(page.text))
        check_places(page)


def _begins(text: torch.Tensor, prompt: torch.Tensor) -> int:
    """The last place where all of the prompt but its last token, which may be glued to the value, stands."""
    sought = prompt[:-1]
    windows = text.unfold(0, len(sought), 1)
    return int((windows == sought).all(1).nonzero().max())


@pytest.mark.parametrize("needle", NEEDLES, ids=["passkey", "numbers", "words"])
def test_text_questions_and_answers_are_those_of_the_task(needle: Needle) -> None:
    for seed in range(5):
        page, sample = NeedlePages(needle=needle, part=100).page(seed), needle.sample(seed)
        asked = [tokens for question in page.questions for tokens in (question.prompt, question.answer)]
        assert torch.cat([page.text, *asked]).tolist() == sample.tokens.tolist()
        assert len(page.text) == page.facts["length"]
        behind = len(sample.tokens) - len(page.text) - len(page.questions[-1].answer)
        assert int(page.questions[-1].facts["distance"]) + behind == sample.facts["distance"]
        assert page.questions[-1].facts["depth"] == sample.facts["depth"]


def test_parts_are_of_the_length_that_is_asked() -> None:
    page = NeedlePages(needle=NEEDLES[0], part=100).page(3)
    assert [len(part) for part in page.parts[:-1]] == [100, 100]
    assert len(NeedlePages(needle=NEEDLES[0]).page(3).parts) == 1
    with pytest.raises(ValueError, match="got 0"):
        NeedlePages(part=0)
