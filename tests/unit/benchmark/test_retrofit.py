"""A pretrained model with memories beside itself without."""

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from retain.benchmark import retrofit
from retain.benchmark.plan import Plan
from retain.benchmark.report import markdown
from retain.benchmark.timing import Times


def test_a_model_is_measured_and_its_stream_leaves_a_state_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("CALL", 1024), ("READ", 64), ("SPAN", 4), ("PIECE", 1024)):
        monkeypatch.setattr(retrofit, name, size)
    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    noted: list[float] = []
    found = retrofit.measure_model(str(tmp_path), 1, 0, True, lambda done, note: noted.append(done))
    assert [row["tokens"] for row in found["rows"]] == [64, 4]
    assert all(row["base"]["median"] > row["with memories"]["median"] for row in found["rows"])
    stream = found["stream"]
    weights = 2 * (64 * 128 + 128 * 64 + 64) * 4  # two heads, float32
    buffer = 0  # each piece is a whole number of steps
    assert stream["state_bytes"] == [2 * (3 * weights + buffer + 8)]
    assert stream["finite"]
    assert max(noted) <= 1.0


def test_without_the_model_a_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(retrofit.PLACE, str(tmp_path))
    found = retrofit.measure_retrofit(Plan(parts=("retrofit",)), lambda done, note: None)
    assert "fetch-smollm2" in found["skipped"]
    assert str(tmp_path) in markdown({"rows": [], "quick": False, "retrofit": found})


def test_both_ratios_are_judged_each_in_its_own_direction() -> None:
    times = {"base": Times((1.0, 4.0, 2.0)), "with memories": Times((1.5, 5.0, 2.6))}
    forward, token = (retrofit._row(phase, 64, times) for phase in ("forward", "one token"))
    assert (forward["ratio"], forward["reached"]) == (1.3, True)
    assert (token["ratio"], token["reached"]) == (1 / 1.3, False)
    stream = {"tokens": 1024, "piece": 512, "state_bytes": [2**20], "resident_ratio": 1.0, "target": 1.1, "reached": True}
    text = markdown({"rows": [], "quick": False, "retrofit": {"what": "small", "rows": [forward, token], "stream": stream}})
    assert "time 1.30 times the base's (target 1.4 at most: reached)" in text
    assert "0.77 of the base's speed (target 0.8 at least: **not reached**)" in text
    assert "the memories take 1.0 MB" in text
