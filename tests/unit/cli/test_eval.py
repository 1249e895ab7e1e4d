"""`retain eval`: tables with their controls, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from retain.cli.main import app
from retain.evaluation import Cost, Recall
from retain.models import RetainConfig, RetainForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = RetainConfig(vocab_size=129, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="mag", window=4)
    RetainForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_asked_at_several_lengths_beside_its_controls(model: Path, tmp_path: Path) -> None:
    words = ["eval", str(model), "mqar", "--out", str(tmp_path / "told"), "--samples", "2", "--lengths", "128,1k", "--cost"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for reading in ("model", "writes off", "memory reset", "window cut"):
        assert done.output.count(f"| {reading} |") == 2
    found = Recall.from_json((tmp_path / "told" / "recall.json").read_text())
    assert {outcome.facts["length"] for outcome in found.outcomes} == {128, 1024}
    assert len({outcome.seed for outcome in found.outcomes}) == 4
    assert (tmp_path / "told" / "recall.png").read_bytes()[1:4] == b"PNG"
    assert Cost.from_json((tmp_path / "told" / "cost.json").read_text()).parameters > 0


def test_a_task_that_does_not_tell_its_length_is_asked_at_several_too(tmp_path: Path) -> None:
    RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm")).save_pretrained(tmp_path)
    done = CliRunner().invoke(app, ["eval", str(tmp_path), "needle", "--out", str(tmp_path / "told"), "--samples", "1", "--lengths", "512,600"])
    assert done.exit_code == 0, done.output
    assert "| 512 | model | 1 |" in done.output
    assert "| 600 | model | 1 |" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mqar", "--lengths", "long"], "4k or 1M"),
        (["quark"], "no recipe 'quark'"),
        (["code"], "the task has 256 tokens and the model knows 129"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(words: list[str], message: str, model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", str(model), *words, "--out", str(tmp_path / "told")])
    assert done.exit_code == 2
    assert message in done.output
    nowhere = CliRunner().invoke(app, ["eval", str(tmp_path), "mqar", "--out", str(tmp_path / "told")])
    assert nowhere.exit_code == 2
    assert "no config.json" in nowhere.output
