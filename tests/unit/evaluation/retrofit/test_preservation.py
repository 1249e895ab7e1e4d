"""Ordinary text: each reading against the text read alone, and ratios against their definition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.evaluation import Preservation, preservation
from retain.retrofit import branches_of, detach, disable_memory
from tests.unit.evaluation.retrofit.small import START, Digits, after, read, small

TEXTS = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(7))
FOUND = Preservation(
    title="English", nats={"base": (3.0, 2.0), "empty memory": (3.0, 2.0), "full memory": (3.2, 2.0)}, tokens=64, about={"model": "Small"}
)


@torch.no_grad()
def test_each_reading_is_the_text_read_alone() -> None:
    model = small()
    result = preservation(model, TEXTS, Digits(), [4, 5, 6], start=[START], batch=2)
    assert model.training
    model.eval()

    def cost(text: Tensor, cache: Any) -> float:
        logits = model(input_ids=after(text), past_key_values=cache, use_cache=cache is not None).logits[0, :-1]
        return float(F.cross_entropy(logits, text))

    with disable_memory(model):
        base = [cost(text, None) for text in TEXTS]
    empty = [cost(text, None) for text in TEXTS]
    full = [cost(text, read(model, Digits().page(seed))) for text, seed in zip(TEXTS, (4, 5, 6), strict=True)]
    for name, nats in (("base", base), ("empty memory", empty), ("full memory", full)):
        assert result.nats[name] == pytest.approx(nats, rel=1e-5)
    assert len({round(nats[0], 4) for nats in (base, empty, full)}) == 3, "memories that do something change what text costs"
    assert result.ratio() == pytest.approx(math.exp((sum(full) - sum(base)) / 3), rel=1e-5)


def test_memories_that_are_shut_preserve_all() -> None:
    model = small()
    for branch in branches_of(model):
        torch.nn.init.zeros_(branch.strength)
    result = preservation(model, TEXTS, Digits(), range(3), start=[START])
    assert (result.ratio(), result.ratio("empty memory")) == (1.0, 1.0)


def test_results_survive_json_and_are_not_shown_in_part() -> None:
    assert Preservation.from_json(FOUND.to_json()) == FOUND
    for missing in FOUND.nats:
        with pytest.raises(ValueError, match=missing):
            replace(FOUND, nats={name: nats for name, nats in FOUND.nats.items() if name != missing}).markdown()


@pytest.mark.parametrize(
    ("texts", "seeds", "batch"), [(TEXTS[:1], [0], 1), (TEXTS[:, :0], [0, 1, 2], 1), (TEXTS, [0, 1], 1), (TEXTS, [0, 1, 2], 0)], ids=str
)
def test_what_cannot_be_scored_is_refused(texts: Tensor, seeds: list[int], batch: int) -> None:
    with pytest.raises(ValueError, match="two texts of a token at least, a seed for each"):
        preservation(small(), texts, Digits(), seeds, start=[START], batch=batch)


def test_a_model_without_memories_is_refused() -> None:
    with pytest.raises(ValueError, match="no memories"):
        preservation(detach(small()), TEXTS, Digits(), range(3), start=[START])


def test_a_reading_that_is_not_a_number_is_shown_as_such() -> None:
    lines = replace(FOUND, nats={**FOUND.nats, "full memory": (math.nan, 2.0)}).markdown().splitlines()
    assert lines[-1] == "| full memory | nan ± nan | nan | nan (nan - nan) |"
    assert lines[-3] == FOUND.markdown().splitlines()[-3]
