"""The recipe of formal languages: its words, models of one size, lessons that are the same for all, and how answers are counted."""

from __future__ import annotations

import pytest
import torch
from recipes.formal_languages.report import cells_of, shares
from recipes.formal_languages.run import BINS, LANGUAGES, MODELS, asked, run_of, words
from recipes.formal_languages.tune import best
from torch import nn

from retain.models import RetainConfig, RetainForCausalLM
from retain.training.describe import described


def model_of(name: str, language: str) -> RetainForCausalLM:
    torch.manual_seed(0)
    run = run_of(name, language, 0, 1e-2)
    return RetainForCausalLM(RetainConfig(**{"vocab_size": run.vocab_size, **run.model})).eval()


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_lie_in_their_bin(language: str) -> None:
    for fewest, most in BINS:
        lengths = {int(words(language, fewest, most).sample(seed).facts["length"]) for seed in range(200)}
        assert fewest <= min(lengths)
        assert max(lengths) <= most
        assert max(lengths) - min(lengths) > 0.8 * (most - fewest)


def test_models_are_of_one_size() -> None:
    sizes = {name: sum(weight.numel() for weight in model_of(name, "parity").parameters()) for name in MODELS}
    assert max(sizes.values()) < 1.01 * min(sizes.values()), sizes


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_have_the_same_lessons_and_none_beyond_the_first_bin(language: str) -> None:
    runs = [described(run_of(name, language, 3, 1e-2)) for name in MODELS]
    for run in runs:
        del run["model"]
        assert run == runs[0]
    tasks = [task for lesson in run_of("Hope", language, 3, 1e-2).lessons for task in lesson.tasks]
    assert max(int(task.sample(seed).facts["length"]) for task in tasks for seed in range(50)) <= BINS[0][1]


def test_answers_are_counted_letter_by_letter_and_word_by_word() -> None:
    """A model that always says 0: right where the words so far are not in the language."""
    model = model_of("transformer", "(aa)*")
    nn.init.zeros_(model.lm_head.weight)
    rows = asked(model, "(aa)*", 0, samples=4)
    assert [row["bin"] for row in rows] == [list(each) for each in BINS]
    for row, (fewest, most), i in zip(rows, BINS, range(len(BINS)), strict=True):
        lengths = [int(words("(aa)*", fewest, most).sample(1000 * i + seed).facts["length"]) for seed in range(4)]
        assert (row["right"], row["asked"]) == (sum((length + 1) // 2 for length in lengths), sum(lengths))
        assert (row["words"], row["of"]) == (0, 4)


def test_a_memory_is_asked_with_its_writes_off_as_well() -> None:
    rows = asked(model_of("DeltaNet, up to 2", "parity"), "parity", 0, samples=2)
    assert [row["reading"] for row in rows] == ["model", "writes off"] * len(BINS)


def test_the_rate_is_chosen_by_the_second_bin_then_the_first() -> None:
    def trial(rate: float, *found: float, loss: float = 0.0) -> dict[str, object]:
        return {"rate": rate, "shares": list(found), "loss": loss}

    assert best([trial(1e-3, 0.9, 0.5, 1.0), trial(1e-2, 0.8, 0.6, 0.0)]) == 1e-2
    assert best([trial(1e-3, 0.9, 0.5), trial(1e-2, 0.8, 0.5)]) == 1e-3
    assert best([trial(1e-3, 1.0, 1.0, loss=0.2), trial(1e-2, 1.0, 1.0, loss=0.1)]) == 1e-2


def test_shares_are_taken_seed_by_seed() -> None:
    def cell(right: int) -> dict[str, object]:
        rows = [{"bin": list(each), "reading": "model", "right": right + i, "asked": 10, "words": 1, "of": 2} for i, each in enumerate(BINS)]
        return {"model": "Hope", "language": "parity", "rows": rows}

    cells = cells_of([{"cells": [cell(1), {"model": "other", "language": "parity"}]}, {"cells": [cell(5)]}], "Hope", "parity")
    assert shares(cells, "model", 1, "right", "asked") == [0.2, 0.6]
    assert shares(cells, "model", None, "right", "asked") == [0.25, 0.65]
    assert shares(cells, "writes off", 1, "right", "asked") == []
