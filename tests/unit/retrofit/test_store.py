"""Memories on disk: they come back bit by bit beside the same base, and whatever does not fit is refused with nothing changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from retain.core.errors import DamagedStateFile, ForeignState, NotAStateFile, StateFileError, UnsupportedStateVersion
from retain.retrofit import MarkedTokens, SurprisingTokens, attach, branches_of, detach, disable_memory, load, memory_hash, save, store
from retain.retrofit.attach import session_of
from retain.storage import sealed
from tests.unit.retrofit.bases import FAMILIES, base, retrofitted, words


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_memories_come_back_bit_by_bit(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = retrofitted(family, features="centred", writes=SurprisingTokens(0.25, among=MarkedTokens((1,), (2, 3))))
    for branch in branches_of(model):
        branch.to(dtype)
    save(model, tmp_path / "notes")
    with torch.random.fork_rng():
        back = load(base(family), tmp_path / "notes")
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == [store.CONFIG, store.WEIGHTS]
    assert session_of(back).config == session_of(model).config
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    assert {name for name, weight in back.named_parameters() if weight.requires_grad} == {name for name in ours if ".memory." in name} - {
        name for name, _ in model.named_buffers()
    }
    assert memory_hash(back) == memory_hash(model)
    if dtype == torch.float64:
        with torch.no_grad():
            assert torch.equal(back(words()).logits, model(words()).logits)


def test_the_files_say_what_they_are(tmp_path: Path) -> None:
    model = retrofitted()
    save(model, tmp_path)
    described = json.loads((tmp_path / store.CONFIG).read_text())
    assert (described["format"], described["version"]) == ("retain.memory-model", "1")
    assert described["base"]["model_type"] == "llama"
    assert {name: described["base"]["config"][name] for name in ("hidden_size", "num_hidden_layers", "vocab_size")} == {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "vocab_size": 40,
    }
    assert described["memory"] == session_of(model).config.to_dict()
    decoder = {f"{name}": weight for name, weight in model.model.state_dict().items() if ".memory." in name}
    written = load_file(tmp_path / store.WEIGHTS)
    assert written.keys() == decoder.keys()
    assert all(name.startswith(("layers.0.self_attn.memory.", "layers.2.self_attn.memory.")) for name in written)


def test_what_may_change_in_a_configuration_does_not_make_another_base(tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    same = base()
    same.config.pad_token_id, same.config.use_cache, same.config._name_or_path = 7, False, "elsewhere"
    load(same, tmp_path)
    assert len(branches_of(same)) == 2


@pytest.mark.parametrize(
    ("family", "sizes", "differing"), [("llama", {"rms_norm_eps": 1e-3}, "rms_norm_eps: 1e-06, here 0.001"), ("qwen3", {}, "model_type")]
)
def test_another_base_is_refused_with_what_differs(family: str, sizes: dict[str, Any], differing: str, tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    other = base(family, **sizes)
    with pytest.raises(ForeignState, match="trained beside another base model") as caught:
        load(other, tmp_path)
    assert differing in str(caught.value)
    _assert_untouched(other)


def _assert_untouched(model: Any) -> None:
    assert branches_of(model) == []
    assert all(weight.requires_grad for weight in model.parameters())
    assert not any(".memory." in name for name in model.state_dict())


def _sealed_again(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Other weights under a checksum that agrees with them, and a configuration that belongs to them."""
    tensors = change(load_file(path / store.WEIGHTS))
    (path / store.WEIGHTS).write_bytes(data := sealed(store.FORMAT, {}, tensors))
    described = json.loads((path / store.CONFIG).read_text())
    (path / store.CONFIG).write_text(json.dumps({**described, "weights_sha256": store.hashlib.sha256(data).hexdigest()}))


STRENGTH = "layers.0.self_attn.memory.strength"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: {n: w for n, w in t.items() if n != STRENGTH}, rf"missing \['{STRENGTH}'\]"),
        (lambda t: {**t, "layers.1.self_attn.memory.strength": t[STRENGTH]}, r"unexpected \['layers.1"),
        (lambda t: {**t, STRENGTH: t[STRENGTH].view(1, 1)}, rf"of other shapes \['{STRENGTH} \[1, 1\] for \["),
        (lambda t: {**t, STRENGTH: t[STRENGTH].long()}, "not of one floating type"),
        (lambda t: {**t, STRENGTH: t[STRENGTH].half()}, "not of one floating type"),
        (lambda t: {n: w.long() for n, w in t.items()}, "not of one floating type"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_attached(change: Any, why: str, tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    _sealed_again(tmp_path, change)
    model = base()
    with pytest.raises(ValueError, match=why):
        load(model, tmp_path)
    _assert_untouched(model)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    model, path = base(), tmp_path / store.WEIGHTS
    whole = path.read_bytes()
    for i, place in enumerate([*range(0, 8, 2), *range(8, len(whole), len(whole) // 40), len(whole) - 1]):
        broken = bytearray(whole)
        broken[place] ^= 1 << (i % 8)
        path.write_bytes(broken)
        with pytest.raises(StateFileError):
            load(model, tmp_path)
    path.write_bytes(whole[:-1])
    with pytest.raises(DamagedStateFile):
        load(model, tmp_path)
    _assert_untouched(model)


def test_a_configuration_that_is_damaged_foreign_or_newer_is_refused(tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    model, path = base(), tmp_path / store.CONFIG
    described = json.loads(path.read_text())
    cases: list[tuple[str, type[Exception], str]] = [
        (path.read_text()[:-9], DamagedStateFile, "cannot be read"),
        ("[]", DamagedStateFile, "cannot be read"),
        (json.dumps({**described, "format": "lora"}), NotAStateFile, "of the format 'lora'"),
        (
            json.dumps({**described, "version": "2"}),
            UnsupportedStateVersion,
            r"version '2', written by retain 0\.\d+\.\d+; this version of retain reads '1'",
        ),
        (json.dumps({name: part for name, part in described.items() if name != "memory"}), DamagedStateFile, "lacks .*memory"),
        (json.dumps({**described, "memory": {**described["memory"], "size": 1}}), ValueError, "got in addition"),
        (json.dumps({**described, "memory": {**described["memory"], "layers": [9]}}), ValueError, "names each layer once"),
    ]
    for text, error, why in cases:
        path.write_text(text)
        with pytest.raises(error, match=why):
            load(model, tmp_path)
    _assert_untouched(model)


def test_files_of_two_saves_do_not_pass_for_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        save(retrofitted(seed=seed), tmp_path / str(seed))
    (tmp_path / "0" / store.CONFIG).write_bytes((tmp_path / "1" / store.CONFIG).read_bytes())
    with pytest.raises(DamagedStateFile, match="do not belong together"):
        load(base(), tmp_path / "0")


def test_pickles_are_named_and_never_read(tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    torch.save({"strength": torch.ones(())}, tmp_path / "memory_model.bin")
    (tmp_path / store.WEIGHTS).rename(tmp_path / "kept")
    with pytest.raises(NotAStateFile, match=r"run code when it is read, and is not: \['memory_model.bin'\]"):
        load(base(), tmp_path)
    (tmp_path / "memory_model.bin").rename(tmp_path / store.WEIGHTS)
    with pytest.raises(NotAStateFile, match="is not a saved memory of a model"):
        load(base(), tmp_path)
    save_file({"w": torch.ones(1)}, tmp_path / store.WEIGHTS)
    with pytest.raises(NotAStateFile, match="is not a saved memory of a model"):
        load(base(), tmp_path)


@pytest.mark.parametrize("failing", range(4))
def test_a_save_that_fails_leaves_both_old_files_or_none(failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At either of the two files' writing, or of their putting in place."""
    save(retrofitted(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    step, left = ("fsync", "replace")[failing // 2], [failing % 2]
    honest = getattr(os, step)

    def fail(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("no space left")
        honest(*args)

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        for folder in (tmp_path, tmp_path / "new"):
            left[0] = failing % 2
            with pytest.raises(OSError, match="no space left"):
                save(retrofitted(seed=1), folder)
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new").rmdir()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    load(base(), tmp_path)


def test_a_newer_save_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    save(retrofitted(), tmp_path)
    newer = retrofitted(seed=1, layers=(1,))
    save(newer, tmp_path)
    assert memory_hash(load(base(), tmp_path)) == memory_hash(newer)
    assert len([*tmp_path.iterdir()]) == 2


def test_models_with_memories_take_no_others_and_models_without_have_none_to_save(tmp_path: Path) -> None:
    model = retrofitted()
    save(model, tmp_path)
    before = memory_hash(model)
    with pytest.raises(ValueError, match="has memories already"):
        load(model, tmp_path)
    assert memory_hash(model) == before
    with pytest.raises(ValueError, match="has no memories"):
        save(detach(model), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_wrapped_model_is_saved_as_the_model_in_it_but_wrapped_memories_are_refused(tmp_path: Path) -> None:
    model = retrofitted()
    wrapped = torch.nn.ModuleDict({"base_model": torch.nn.ModuleDict({"model": model})})
    save(wrapped, tmp_path / "wrapped")
    save(model, tmp_path / "plain")
    backs = [load(base(), tmp_path / name) for name in ("wrapped", "plain")]
    assert memory_hash(backs[0]) == memory_hash(backs[1]) == memory_hash(model)
    branch = branches_of(model)[0]
    branch.memory.projections.to_q = torch.nn.Sequential(branch.memory.projections.to_q)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="something wraps them"):
        save(model, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_the_hub_is_asked_for_the_two_files_and_its_refusal_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = retrofitted()
    save(model, tmp_path)
    asked = []

    def download(name: str, **kwargs: Any) -> str:
        asked.append((name, kwargs))
        return str(tmp_path)

    monkeypatch.setattr(store, "snapshot_download", download)
    assert memory_hash(load(base(), "someone/notes")) == memory_hash(model)
    assert asked == [("someone/notes", {"allow_patterns": [store.CONFIG, store.WEIGHTS]})]

    def offline(name: str, **kwargs: Any) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(store, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="no folder 'someone/notes', and the model hub gave no repository"):
        load(base(), "someone/notes")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_checkpoint_of_an_attached_model_is_the_base_to_a_stock_class(family: str, tmp_path: Path) -> None:
    model, tokens = retrofitted(family).float(), words()
    model.save_pretrained(tmp_path)
    stock, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(stock) is type(base(family))
    expected = {name for name in model.state_dict() if ".memory." in name}
    assert set(info["unexpected_keys"]) == expected
    assert not info["missing_keys"]
    with torch.no_grad(), disable_memory(model):
        assert torch.equal(stock(tokens).logits, model(tokens).logits)
    attach(stock)  # it can be given memories as any other
