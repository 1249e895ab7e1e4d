"""The retrofits of the recipes, and the exams that follow them."""

from __future__ import annotations

import pytest
import torch
from recipes.retrofit.places import _hits
from recipes.retrofit.run import EXAMS

from retain.tasks import EXAMS as KNOWN
from retain.tasks import Page, Question
from retain.training.retrofit.recipes import RECIPES


def test_what_is_trained_and_asked_is_known_by_name() -> None:
    assert EXAMS.keys() <= RECIPES.keys()
    assert {name for exams in EXAMS.values() for name in exams} <= KNOWN.keys()


@pytest.mark.parametrize("lags", [(1.0,), (0.3, 1.0)])
def test_a_question_finds_the_place_behind_its_own_words_and_no_other(lags: tuple[float, ...]) -> None:
    words = torch.randn(12, 36, generator=torch.Generator().manual_seed(1))
    text = words[[0, 1, 2, 3, 4, 5, 6, 7, 8]]
    asked = Question(torch.tensor([3, 4]), torch.tensor([5]), {"distance": 4})  # behind words 3 and 4
    page = Page((torch.arange(9),), (asked,), {})
    assert _hits(page, text, [words[[0, 3, 4]]], lags) == [True]
    assert _hits(page, text, [words[[0, 5, 6]]], lags) == [False]
