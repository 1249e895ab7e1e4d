"""Where questions begin, and which tokens are an answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retain.evaluation import Share, question_start
from retain.evaluation.question import right_answers
from retain.tasks import MQAR, BytePairs, Bytes, Facts, HashHop, LanguageModelling, Needle, Sample, VariableTracing
from retain.tasks.book import Book

PAIRS = BytePairs.train(["\nThe pass key for bakoti is 48213.\nWhere is Mary? kitchen\nWhat is VAR ABCDE? \nCoT=False\n\nAbc = '" * 9], 300)
ASKED: dict[str, Any] = {
    "needle": (Needle, "The pass key for ", {"length": 300}),
    "facts": (Facts, "Where is ", {"length": 500, "events": 4}),
    "variables": (VariableTracing, "What is VAR ", {"length": 300}),
    "hash hop": (HashHop, "", {"length": 300, "letters": 5}),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("codec", [Bytes(), PAIRS], ids=["bytes", "byte pairs"])
def test_the_question_of_a_text_is_its_last_line(name: str, codec: Bytes | BytePairs) -> None:
    kind, words, sizes = ASKED[name]
    task = kind(codec=codec, **sizes)
    for seed in range(3):
        sample = task.sample(seed)
        start, first = question_start(sample, codec), int(sample.asked.int().argmax())
        line = codec.decode(sample.tokens[start:first].tolist())
        assert words in line
        assert line.count("\n") == line[:2].count("\n"), "one line, with the line ends before it at most"
        assert 1 < first - start < 40


def test_without_lines_it_is_the_token_before_the_answer() -> None:
    sample = MQAR(pairs=2, vocabulary=8, length=12, gap=2).sample(seed=1)
    first = int(sample.asked.int().argmax())
    assert question_start(sample) == first - 1
    one_line = LanguageModelling(book=Book.of("no end of a line "), length=6).sample(0)
    assert question_start(one_line, Bytes()) == 0


def test_a_fact_goes_before_all() -> None:
    sample = Needle(length=100).sample(0)
    told = Sample(sample.tokens, sample.asked, {**sample.facts, "question": 5})
    assert question_start(told, Bytes()) == 5


def test_runs_of_asked_tokens_are_answers() -> None:
    asked = torch.tensor([False, True, True, False, True, True, True])
    sample = Sample(torch.arange(7), asked, {})
    assert right_answers(sample, asked) == Share(2, 2)
    assert right_answers(sample, ~asked) == Share(0, 2)
    assert right_answers(sample, torch.tensor([True, True, True, True, True, False, True])) == Share(1, 2)
    labelled = Sample(torch.arange(7), asked, {}, torch.arange(7))
    assert right_answers(labelled, torch.tensor([True, True, True, True, True, False, True])) == Share(4, 5)
