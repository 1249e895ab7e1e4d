"""Costs: a model that sleeps and hoards proves the measuring."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from retain.evaluation import Cost, CostRow, cost
from tests.unit.evaluation.oracle import small
from tests.unit.models.test_generate import VOCABULARY

MB = 1 << 20


class Sleeper(nn.Module):
    """Takes its time for each call, and 64 MB while it reads a prompt."""

    def __init__(self, seconds: float = 0.002) -> None:
        super().__init__()
        self.config, self.seconds, self.read = SimpleNamespace(vocab_size=7), seconds, []
        self.weight = nn.Parameter(torch.zeros(3, 4))

    def forward(self, input_ids: Tensor, past_key_values: Any, use_cache: bool, logits_to_keep: Tensor) -> Any:
        time.sleep(self.seconds)
        self.read.append(input_ids.shape[1])
        hoard = torch.ones(64 * MB // 4) if input_ids.shape[1] > 1 else torch.zeros(1)
        logits = torch.zeros(input_ids.shape[0], len(logits_to_keep), 7) + 0 * hoard[0]
        return SimpleNamespace(logits=logits, past_key_values=past_key_values or SimpleNamespace())


def test_time_is_that_of_the_calls_and_the_peak_that_of_the_hoard() -> None:
    sleeper = Sleeper()
    result = cost(sleeper, lengths=(8, 16), batch=2, chunk=4, decoded=3, repeats=2)
    assert [row.length for row in result.rows] == [8, 16]
    assert sleeper.read == 3 * [4, 4, 1, 1, 1] + 3 * [4, 4, 4, 4, 1, 1, 1]
    for row, calls in zip(result.rows, (2, 4), strict=True):
        assert len(row.seconds) == len(row.decode_seconds) == 2
        assert row.median >= 0.002 * calls
        assert 0.002 <= row.decode_median < row.median
        assert row.state_bytes is None
        assert row.before_bytes is None or (row.peak_bytes is not None and row.peak_bytes - row.before_bytes > 50 * MB)
    assert result.parameters == 12
    assert "| 8 |" in str(result)
    assert "not known" in str(result)


def test_the_state_of_a_memory_does_not_grow_and_that_of_attention_does() -> None:
    kept = [row.state_bytes for row in cost(small("mac"), lengths=(8, 64), decoded=1, repeats=1).rows]
    assert kept[0] == kept[1]
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes))
    grown = [row.state_bytes for row in cost(llama, lengths=(8, 64), batch=3, decoded=1, repeats=1).rows]
    assert grown == [2 * 2 * 8 * length * 4 for length in (8, 64)], "layers x (keys, values) x width x tokens x 4 bytes"


def test_medians_stand_in_the_table() -> None:
    row = CostRow(length=2048, seconds=(1.0, 9.0, 2.0), decode_seconds=(0.004, 0.001, 0.002), state_bytes=64_000, before_bytes=None, peak_bytes=None)
    text = str(Cost(title="Cost", parameters=1, batch=1, rows=(row,), about={}))
    assert text.splitlines()[-1] == "| 2,048 | 2 | 1,020 | 2 | 500 | 64 | not known | not known |"


def test_a_result_survives_json_and_progress_goes_up_to_one() -> None:
    told: list[float] = []
    result = cost(Sleeper(0.0), lengths=(4,), decoded=1, repeats=2, progress=lambda share, note: told.append(share))
    assert Cost.from_json(result.to_json()) == result
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("others", [{"lengths": ()}, {"lengths": (0,)}, {"batch": 0}, {"chunk": 0}, {"decoded": 0}, {"repeats": 0}], ids=str)
def test_what_makes_no_sense_is_refused(others: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of 1 at least"):
        cost(Sleeper(), **{"lengths": (4,), **others})
