"""`retain retrofit train`, `chat` and `inspect`, on a small model of bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from typer.testing import CliRunner

from retain.cli.main import app
from retain.retrofit import Conversation, MarkedTokens, attach, load, load_memory, memory_parameters, save, saved_weights
from retain.training import read_metrics
from retain.training.retrofit import RetrofitTrainer
from tests.unit.training.retrofits import STEEP, run_of, small_base

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"), TEMPLATE, num_hidden_layers=3)


@pytest.fixture(scope="module")
def memories(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Memories with a say, saved as a run keeps them."""
    torch.manual_seed(1)
    model = attach(AutoModelForCausalLM.from_pretrained(base), STEEP)
    folder = tmp_path_factory.mktemp("model")
    save(model, folder)
    return folder


def _run(*words: str, typed: str | None = None) -> Any:
    done = CliRunner().invoke(app, ["retrofit", *words], input=typed)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A recipe of one's own."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\nfrom tests.unit.training.retrofits import run_of\n\ndef run(base):\n    return run_of('late', Path(base))\n"
    )
    return str(file)


def test_a_recipe_of_ones_own_is_trained_as_it_says(mine: str, base: Path, tmp_path: Path) -> None:
    words = ["train", mine, "--base", str(base), "--device", "cpu", "--set", "lessons.1.steps=1"]
    done = _run(*words, "--out", str(tmp_path / "run"), "--seed", "1")
    assert "parameters of memories beside" in done.output
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]
    RetrofitTrainer(run_of("late", base), tmp_path / "whole")  # the seed and all else, but for the lesson
    kept, whole = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("run", "whole"))
    assert kept["lessons"][1].pop("steps") == 1
    assert whole["lessons"][1].pop("steps") == 2
    assert kept == whole
    again = CliRunner().invoke(app, ["retrofit", *words, "--out", str(tmp_path / "run"), "--seed", "2"])
    assert again.exit_code == 2
    assert "seed: 1 there, 2 now" in again.output


def test_a_plan_is_told_of_pages_that_are_measured_without_the_tokenizer(tmp_path: Path) -> None:
    tiny = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=8, num_attention_heads=2)
    tiny.save_pretrained(tmp_path / "config")
    words = ["train", "words", "--base", str(tmp_path / "config"), "--plan", "--gpu", "A100", "--processes", "2"]
    done = _run(*words, "--set", "reading.rows=2", "--set", "restraint.rows=3", "--set", "model.memory.memory.head_dim=8")
    assert "2 x A100 80GB, replicas: 2 pages of 124 tokens in 1, 8 questions each of 2 + 1, 6 x 32 tokens of ordinary text" in done.output
    assert "| 1. Pairs | 75 |" in done.output
    assert "is not here, so lengths are those that byte pairs of English give" in done.output
    assert "It fits." in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quark", "--out", "x"], "no recipe 'quark'"),
        (["words", "--plan", "--base", "no/where/at/all"], "no configuration of 'no/where/at/all'"),
        (["mine"], "a run needs a folder"),
        (["mine", "--out", "x", "--set", "reading.quarks=1"], "PageReading has"),
    ],
    ids=str,
)
def test_mistakes_in_training_are_named(
    words: list[str], message: str, mine: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [mine if word == "mine" else word for word in words]
    done = CliRunner().invoke(app, ["retrofit", "train", *given, *([] if "--base" in words else ["--base", str(base)])])
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "x").exists()


def _chat(base: Path, memories: Path, typed: str, *more: str) -> list[dict[str, Any]]:
    done = _run("chat", str(memories), "--base", str(base), "--length", "3", "--json", "--device", "cpu", *more, typed=typed)
    return [json.loads(line) for line in done.output.splitlines()]


def test_a_chat_keeps_what_was_said_in_its_memories_alone(base: Path, memories: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.memory"
    first, second = _chat(base, memories, "figs\nplums\n", "--memory", str(file))
    assert first["context"] == second["context"] == 0
    assert first["memory"] != second["memory"]
    model = load(AutoModelForCausalLM.from_pretrained(base), memories)
    assert load_memory(model, file).hash() == second["memory"]
    (third,) = _chat(base, memories, "dates\n", "--memory", str(file))
    whole = _chat(base, memories, "figs\nplums\ndates\n")
    assert [first["said"], second["said"], third["said"]] == [line["said"] for line in whole]
    assert third["memory"] == whole[-1]["memory"]


def test_the_context_stays_as_long_as_it_is_told(base: Path, memories: Path) -> None:
    kept = [line["context"] for line in _chat(base, memories, "figs\nplums\ndates\n", "--keep-context")]
    turn = len(b"ab\n") + 2  # about what a template adds
    assert kept[0] > turn
    assert kept[0] < kept[1] < kept[2]
    assert [line["context"] for line in _chat(base, memories, "figs\nplums\ndates\n", "--window", str(kept[1] - 1))][:2] == [kept[0], 0]


def _letters(text: str) -> str:
    """Without what a model of random weights leaves of letters it does not end."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "")


def test_nothing_that_is_in_sight_is_read_twice(base: Path, memories: Path) -> None:
    """What was read in two turns is what the template makes of them, with the answers as they were said."""
    model, tokenizer = load(AutoModelForCausalLM.from_pretrained(base), memories), AutoTokenizer.from_pretrained(base)
    talk = Conversation(model, tokenizer, window=None)
    inner, read = talk._read, list[int]()
    talk._read = lambda tokens: (read.extend(tokens), inner(tokens))[1]
    answers = ["".join(talk.say(words, 3)) for words in ("figs", "plums")]
    turns = [("user", "figs"), ("assistant", answers[0]), ("user", "plums"), ("assistant", answers[1])]
    whole = tokenizer.apply_chat_template([{"role": role, "content": content} for role, content in turns], tokenize=False)
    assert talk.cache.get_seq_length() == len(read)
    assert _letters(whole).startswith(_letters(tokenizer.decode(read)))
    assert len(_letters(tokenizer.decode(read))) > len(_letters(whole)) - 20


def test_commands_do_what_they_say(base: Path, memories: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.memory"
    typed = f"figs\n/save {file}\n/fork\nplums\n/back\nplums\n/off\nquinces\n/on\n/stats\n/surprise\n/load {file}\nplums\n/reset\nfigs\n/what\n/load nowhere\n/quit\nnever\n"
    told = _chat(base, memories, typed)
    assert len(told) == 17
    said = [line for line in told if "said" in line]
    first, forked, again, off, loaded, fresh = said
    assert (forked["said"], forked["memory"]) == (again["said"], again["memory"]) == (loaded["said"], loaded["memory"])
    assert off["memory"] == again["memory"]
    assert (fresh["said"], fresh["memory"]) == (first["said"], first["memory"])
    by_name = {line["command"]: line["told"] for line in told if "command" in line and line["command"] != "load"}
    assert "layers.2.self_attn" in by_name["stats"]
    assert "'u'" in by_name["surprise"]
    assert "There is no /what" in by_name["what"]


def test_writes_are_those_that_were_chosen(base: Path, memories: Path) -> None:
    memory = {policy: _chat(base, memories, "figs\n", "--writes", policy)[0]["memory"] for policy in ("all", "user", "off")}
    assert len(set(memory.values())) == 3
    model, tokenizer = load(AutoModelForCausalLM.from_pretrained(base), memories), AutoTokenizer.from_pretrained(base)
    talk = Conversation(model, tokenizer, writes=MarkedTokens.turns(tokenizer))
    list(talk.say("figs", 3))
    assert talk.cache.hash() == memory["user"]


def test_a_tokenizer_without_a_template_is_refused(memories: Path, base: Path, tmp_path: Path) -> None:
    plain = small_base(tmp_path / "plain")
    done = CliRunner().invoke(app, ["retrofit", "chat", str(memories), "--base", str(plain)], input="figs\n")
    assert done.exit_code == 2
    assert "no chat template" in done.output


def test_memories_are_told_with_what_they_do_with_a_text(base: Path, memories: Path, tmp_path: Path) -> None:
    words = ["inspect", str(memories), "--base", str(base)]
    text = "one two one two one two"
    found = json.loads(_run(*words, "--text", "-", "--part", "9", "--json", typed=text).output)
    model = load(AutoModelForCausalLM.from_pretrained(base), memories)
    counted = sum(weight.numel() for weight in memory_parameters(model))
    assert sum(row["parameters"] for row in found["layers"]) == counted
    assert {row["layer"] for row in found["layers"]} == {"layers.0.self_attn", "layers.2.self_attn"}
    assert found["layers"][0]["strength"] == pytest.approx(float(torch.tanh(torch.tensor(0.5))))
    assert found["text"]["tokens"] == len(text)
    assert [one["tokens"] for one in found["text"]["parts"]] == [9, 9, 5]
    assert sorted(one["place"] for one in found["text"]["most"]) != [one["place"] for one in found["text"]["most"]]
    assert all(text[one["place"]] == one["token"] for one in found["text"]["most"])
    (tmp_path / "text").write_text(text * 20)
    told = _run(*words, "--text", str(tmp_path / "text")).output
    assert "| surprised most | token | place |" in told
    assert f"2 memories of {counted:,} parameters" in told


def test_a_collapsed_gate_is_told(base: Path, memories: Path, tmp_path: Path) -> None:
    model = load(AutoModelForCausalLM.from_pretrained(base), memories)
    with torch.no_grad():
        model.get_parameter("model.layers.2.self_attn.memory.to_gate.bias").fill_(-20)
    save(model, tmp_path / "shut")
    assert saved_weights(tmp_path / "shut").keys() == saved_weights(memories).keys()
    (tmp_path / "text").write_text("word " * 60)
    told = _run("inspect", str(tmp_path / "shut"), "--base", str(base), "--text", str(tmp_path / "text")).output
    assert "The gate of layers.2.self_attn no longer chooses" in told
    assert "The gate of layers.0" not in told
