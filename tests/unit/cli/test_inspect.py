"""From the command line: pages and tables of models, text memories and states, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from retain.cli.main import app
from retain.layers import NeuralMemory
from retain.storage import save_state
from retain.text import HashingEmbedder, MemoryConfig, TextMemory
from tests.unit.inspection.pages import data_in, model_of


def _run(*words: str | Path, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["inspect", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a text memory with a snapshot, a text, and two states."""
    room = tmp_path_factory.mktemp("room")
    model_of().save_pretrained(room / "model")
    (room / "text.txt").write_text("the sea is salt\nbread is baked\n", encoding="utf-8")
    (room / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (room / "empty.txt").write_text("")
    with TextMemory.open(room / "notes", MemoryConfig(dim=16), embedder=HashingEmbedder()) as memory:
        memory.observe("the sea is salt")
        memory.snapshot("monday")
        memory.observe("bread is baked")
    layer = NeuralMemory(8)
    save_state(layer.start(1), room / "state", layer.rule)
    return room


def test_a_text_that_a_model_reads(room: Path, tmp_path: Path) -> None:
    done = _run(room / "text.txt", "--model", room / "model", "--out", tmp_path / "page.html", "--reads", "3", "--at", "6")
    assert done.stdout == f"The page is {tmp_path / 'page.html'}.\n"
    data = data_in((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert (data["title"], data["count"], data["traced"]) == ("text.txt", 31, [5, 9, 19, 30])
    assert "the read of token 31" in _run(room / "text.txt", "--model", room / "model", "--reads", "1").stdout


def test_a_text_that_a_memory_is_asked_about(room: Path, tmp_path: Path) -> None:
    done = _run(room / "text.txt", "--memory", room / "notes", "--out", tmp_path / "page.html", "--text")
    assert "2 | bread is baked" in done.stdout
    assert data_in((tmp_path / "page.html").read_text(encoding="utf-8"))["pieces"] == ["the sea is salt", "bread is baked"]


def test_two_states(room: Path) -> None:
    assert "The two are equal." in _run("--compare", room / "state", room / "state").stdout
    done = _run("--memory", room / "notes", "--compare", "monday", "now")
    assert "1 record only after" in done.stdout
    assert "| 2 | bread is baked |" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which text?"),
        (["text.txt"], "either a model reads the text, or a text memory"),
        (["text.txt", "--model", "model", "--memory", "notes"], "and not both"),
        (["text.txt", "--compare", "state", "state"], "goes with neither a FILE nor --model"),
        (["absent.txt", "--model", "model"], "absent.txt: No such file or directory"),
        (["text.txt", "--model", "notes"], "no config.json"),
        (["latin.txt", "--model", "model"], "not UTF-8: byte 4 is 0xe9"),
        (["empty.txt", "--model", "model"], "nothing in the text"),
        (["text.txt", "--model", "model", "--at", "32"], "tokens from 1 to 31, got 32"),
        (["text.txt", "--model", "model", "--reads", "-1"], "must be at least 0, got -1"),
        (["text.txt", "--memory", "model"], "no text memory in"),
        (["empty.txt", "--memory", "notes"], "no lines to ask about"),
        (["--memory", "notes", "--compare", "sunday", "now"], "no text memory in"),
        (["--compare", "state", "text.txt"], "is no saved state"),
        (["--compare", "state", "absent"], "absent: No such file or directory"),
        (["--compare", "state", "state", "--out", "absent/page.html"], "No such file or directory"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(words: list[str], message: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    done = _run(*words, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("retain inspect: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_memories_of_a_pretrained_model_are_sent_to_their_own_command(room: Path, tmp_path: Path) -> None:
    (tmp_path / "memory_config.json").write_text("{}")
    assert f"retain retrofit inspect {tmp_path} --base BASE" in _run(room / "text.txt", "--model", tmp_path, code=2).stderr


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_lacks_weights_is_not_looked_at(room: Path, tmp_path: Path) -> None:
    """Random weights would stand in their place."""
    tensors = load_file(room / "model" / "model.safetensors")
    del tensors["model.layers.0.norm.weight"]
    (tmp_path / "config.json").write_bytes((room / "model" / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    done = _run(room / "text.txt", "--model", tmp_path, code=2)
    assert "lacks weights of this model, such as model.layers.0.norm.weight" in done.stderr
