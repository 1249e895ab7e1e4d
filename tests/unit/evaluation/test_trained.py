"""A memory that was trained to recall: it is right with writes, and guesses without them or behind a reset."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from retain.evaluation import Recall, recall
from retain.models import RetainConfig, RetainForCausalLM
from retain.tasks import MQAR

TASK = MQAR(pairs=8, vocabulary=32, length=64, gap=16)
WINDOW, STEPS = 8, 50
MEMORY = {"preset": "delta_net", "projections": {"conv": 4, "start": "recall"}, "gates": {"lr": 0.5}}


@pytest.fixture(scope="module")
def result() -> Recall:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": TASK.vocab_size, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = RetainForCausalLM(RetainConfig(**sizes, block="mag", window=WINDOW, persistent_tokens=0, gating="add", memory=MEMORY))
    outer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    warming = torch.optim.lr_scheduler.LinearLR(outer, start_factor=0.1, total_iters=15)
    for step in range(STEPS):
        batch = TASK.batch(range(32 * step, 32 * step + 32))
        asked = batch.asked[:, 1:]
        loss = F.cross_entropy(model(batch.tokens, use_cache=False).logits[:, :-1][asked], batch.answers[:, 1:][asked])
        outer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        outer.step()
        warming.step()
    return recall(model, TASK, range(10**6, 10**6 + 40), batch=40)


def test_what_is_recalled_comes_through_the_memory(result: Recall) -> None:
    share = {reading: result.overall(reading).exact for reading in ("model", *result.controls)}
    assert share["model"].interval[0] > 0.95
    assert share["window cut"].interval[0] > 0.9, "attention and convolutions see none of the pairs"
    guessed = 1 / 8  # a model that knows which values came, and nothing else
    assert share["writes off"].interval[1] < guessed
    assert share["memory reset"].interval[1] < guessed


def test_the_table_shows_it(result: Recall) -> None:
    assert result.by == "distance"
    rows = [row for row in result.rows(edges=(WINDOW, 24, 64)) if row.reading == "model"]
    assert [row.group for row in rows] == ["8 to 24", "24 to 64"]
    assert sum(row.samples for row in rows) == 40
    assert all(row.exact.value > 0.9 for row in rows)
