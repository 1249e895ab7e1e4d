"""From the command line: a run is trained, stopped, gone on with, and its model speaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from retain.cli.main import app
from retain.layers.described import presets_by_name
from retain.models import RetainForCausalLM
from retain.training import read_metrics
from retain.training.recipes import RECIPES, changed, recipe
from tests.unit.training.runs import weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TINY = [
    "--set",
    "model.hidden_size=16",
    "--set",
    "lessons.0.steps=6",
    "--set",
    "watch.save_every=2",
    "--set",
    "watch.every=1",
    "--set",
    "reading.rows=2",
]


def _train(out: Path, *others: str) -> list[str]:
    return ["train", "mqar", "--out", str(out), *TINY, *others]


def test_a_run_is_trained_and_its_model_goes_on_from_numbers(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, _train(tmp_path / "run", "--seed", "3"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["seed"] == 3
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    said = runner.invoke(app, ["generate", str(tmp_path / "run" / "model"), "--tokens", "--prompt", "1 2 3", "--length", "5"])
    assert said.exit_code == 0, said.output
    speaker: Any = RetainForCausalLM.from_pretrained(tmp_path / "run" / "model").eval()
    expected = speaker.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=5, do_sample=False)
    assert isinstance(expected, torch.Tensor)
    assert [int(word) for word in said.output.split()] == expected[0, 3:].tolist()
    again = runner.invoke(app, _train(tmp_path / "run", "--seed", "4"))
    assert again.exit_code == 2
    assert "seed: 3 there, 4 now" in again.output


def test_ctrl_c_stops_at_a_safe_point_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "retain", *_train(tmp_path / "parts", "--set", "lessons.0.steps=40")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    while len(read_metrics(tmp_path / "parts")) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on from there: retain train mqar" in told
    stopped = len(read_metrics(tmp_path / "parts"))
    assert 3 <= stopped < 40
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert len(read_metrics(tmp_path / "parts")) == 40
    whole = CliRunner().invoke(app, _train(tmp_path / "whole", "--set", "lessons.0.steps=40"))
    assert whole.exit_code == 0, whole.output
    theirs = weights(tmp_path / "parts")
    assert all(torch.allclose(weight, theirs[name], atol=1e-4) for name, weight in weights(tmp_path / "whole").items())


def test_bytes_are_spoken_as_text(tmp_path: Path) -> None:
    runner = CliRunner()
    settings = ["--set", "lessons.0.steps=1", "--set", "reading.rows=1", "--set", "model.hidden_size=16", "--set", "model.window=8"]
    done = runner.invoke(
        app, ["train", "code", "--out", str(tmp_path), *settings, "--set", "reading.segment=64", "--set", "lessons.0.tasks.0.length=65"]
    )
    assert done.exit_code == 0, done.output
    for more in ([], ["--temperature", "1.0"], ["--beams", "2"]):
        said = runner.invoke(app, ["generate", str(tmp_path / "model"), "--length", "4", *more], input="def f(")
        assert said.exit_code == 0, said.output
        assert len(said.output) >= 1


def test_a_recipe_of_ones_own_is_a_python_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from retain.training.recipes import recipe\n\ndef run():\n    return recipe('mqar')\n")
    assert recipe(str(file)) == recipe("mqar")
    file.write_text("def run():\n    return 3\n")
    with pytest.raises(ValueError, match="returned int"):
        recipe(str(file))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_run_of_which_a_sample_can_be_drawn(name: str) -> None:
    run = recipe(name)
    sample = run.lessons[0].tasks[0].sample(0)
    assert bool(sample.asked.any())
    assert int(sample.tokens.max()) < run.vocab_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "quark", "--out", "x"], "no recipe 'quark'"),
        (["train", "mqar", "--out", "x", "--set", "rows"], "place=value"),
        (["train", "mqar", "--out", "x", "--set", "reading.quarks=1"], "Reading has rows"),
        (["train", "mqar", "--out", "x", "--set", "seed.quarks=1"], "leads nowhere"),
        (["train", "mqar", "--out", "x", "--set", "model.block=quark"], "no block 'quark'"),
        (["generate", "nowhere", "--prompt", "1"], "no config.json"),
    ],
    ids=str,
)
def test_mistakes_are_named(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_tokens_that_a_model_does_not_know_are_refused(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, _train(tmp_path)).exit_code == 0
    for prompt, flags, message in (("1 999", ["--tokens"], "tokens from 0 to"), ("", ["--tokens"], "tokens from 0 to"), ("text", [], "not bytes")):
        done = runner.invoke(app, ["generate", str(tmp_path / "model"), "--prompt", prompt, *flags])
        assert done.exit_code == 2
        assert message in done.output


def test_settings_reach_into_tuples_and_new_places() -> None:
    run = changed(recipe("mqar"), ["lessons.0.tasks.0.pairs=3", "model.memory.gates.lr=0.1", "schedule.betas=[0.5, 0.6]"])
    task = run.lessons[0].tasks[0]
    assert getattr(task, "pairs") == 3  # noqa: B009
    assert run.model["memory"]["gates"]["lr"] == 0.1
    assert run.schedule.betas == (0.5, 0.6)


def test_presets_are_listed_with_their_engines() -> None:
    done = CliRunner().invoke(app, ["presets"])
    assert done.exit_code == 0
    assert all(name in done.output for name in presets_by_name())
    assert "delta" in done.output
    assert "dual" in done.output
