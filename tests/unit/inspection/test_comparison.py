"""Two states beside each other: norms by hand, of files that the library wrote."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from retain.core.errors import DamagedStateFile, NotAStateFile, StateMismatch
from retain.inspection import compare, comparison_page, memory_in, state_in, told_of_change
from retain.layers import NeuralMemory
from retain.memory import presets
from retain.retrofit import MemoryConfig, attach, save_memory
from retain.storage import save_state
from retain.text import HashingEmbedder, TextMemory
from retain.text import MemoryConfig as TextConfig
from tests.unit.inspection.pages import data_in


@pytest.fixture
def layer() -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, rule=presets.titans(update_every=4))


def test_norms_of_what_changed_head_by_head(layer: NeuralMemory, tmp_path: Path) -> None:
    with torch.no_grad():
        begin = layer.start(1)
        _, first = layer(torch.randn(1, 12, 8))
        _, second = layer(torch.randn(1, 20, 8), first)
    for name, state in (("begin", begin), ("first", first), ("second", second)):
        save_state(state, tmp_path / name, layer.rule)
    found = compare(*(state_in(tmp_path / name) for name in ("first", "second", "begin")))
    assert (found.before.seen, found.after.seen) == ((12,), (32,))
    assert (found.before.hash, found.after.hash) == (first.hash(), second.hash())
    by_name = {(one.tensor, one.head): one for one in found.changes}
    assert set(by_name) == {(name, head) for weight in first.accumulator for name in (weight, f"momentum of {weight}") for head in (1, 2)}
    for name, old in first.accumulator.items():
        for head in range(2):
            a, b, start = (w[0, head].detach().numpy().astype("float64").ravel() for w in (old, second.accumulator[name], begin.accumulator[name]))
            one = by_name[name, head + 1]
            assert one.norms == pytest.approx((math.sqrt((a * a).sum()), math.sqrt((b * b).sum())))
            assert one.moved == pytest.approx(math.sqrt(((b - a) ** 2).sum()))
            assert one.share == pytest.approx(one.moved / one.norms[0])
            assert one.cosine == pytest.approx((a * b).sum() / (one.norms[0] * one.norms[1]))
            assert one.distances == pytest.approx((math.sqrt(((a - start) ** 2).sum()), math.sqrt(((b - start) ** 2).sum())))
    shown = {(one["tensor"], one["head"]): one for one in data_in(comparison_page(found))["changes"]}
    assert shown["momentum of w1", 2]["moved"] == by_name["momentum of w1", 2].moved
    assert f"{by_name['w1', 1].moved:.4g}" in told_of_change(found)


def test_momentum_that_was_zero_has_no_relative_change_and_a_page_all_the_same(layer: NeuralMemory, tmp_path: Path) -> None:
    with torch.no_grad():
        _, after = layer(torch.randn(1, 12, 8))
    save_state(layer.start(1), tmp_path / "a", layer.rule)
    save_state(after, tmp_path / "b", layer.rule)
    found = compare(state_in(tmp_path / "a"), state_in(tmp_path / "b"))
    (one,) = [one for one in found.changes if (one.tensor, one.head) == ("momentum of w1", 1)]
    assert (one.share, one.norms[0]) == (math.inf, 0.0)
    (shown,) = [one for one in data_in(comparison_page(found))["changes"] if (one["tensor"], one["head"]) == ("momentum of w1", 1)]
    assert (shown["share"], shown["cosine"]) == (None, None)


def test_equal_states_are_said_to_be_equal(layer: NeuralMemory, tmp_path: Path) -> None:
    save_state(layer.start(1), tmp_path / "a", layer.rule)
    found = compare(state_in(tmp_path / "a"), state_in(tmp_path / "a"))
    assert {one.share for one in found.changes} == {0.0}
    assert "The two are equal." in told_of_change(found)


def test_states_of_different_memories_are_refused(layer: NeuralMemory, tmp_path: Path) -> None:
    others = {"wide": NeuralMemory(16, heads=2, rule=layer.rule), "other": NeuralMemory(8, heads=2, rule=presets.titans(update_every=8))}
    save_state(layer.start(1), tmp_path / "a", layer.rule)
    for name, other in others.items():
        save_state(other.start(1), tmp_path / name, other.rule)
        with pytest.raises(StateMismatch, match=r"not states of one memory"):
            compare(state_in(tmp_path / "a"), state_in(tmp_path / name))


def test_a_file_that_is_no_state_is_refused(layer: NeuralMemory, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello")
    with pytest.raises(NotAStateFile, match="save_memory one of a conversation"):
        state_in(tmp_path / "note")
    save_state(layer.start(1), tmp_path / "a", layer.rule)
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DamagedStateFile):
        state_in(tmp_path / "a")


def test_the_memories_of_a_conversation_layer_by_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    model = attach(LlamaForCausalLM(config), MemoryConfig(memory={"heads": 2})).eval()
    with torch.no_grad():
        cache = model(torch.arange(30)[None]).past_key_values
        save_memory(cache, model, tmp_path / "monday")
        cache = model(torch.arange(20)[None], past_key_values=cache).past_key_values
    save_memory(cache, model, tmp_path / "tuesday")
    found = compare(state_in(tmp_path / "monday"), state_in(tmp_path / "tuesday"))
    assert (found.before.seen, found.after.seen, found.after.hash) == ((30,), (50,), cache.hash())
    assert {one.tensor.split(",")[0] for one in found.changes} == {f"memory {number}" for number in range(1, 1 + len(cache.memories))}


def test_snapshots_of_a_text_memory_and_their_records(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    with TextMemory.open(folder, TextConfig(dim=16), embedder=HashingEmbedder()) as memory:
        for text in ("the sea is salt", "bread is baked"):
            memory.observe(text)
        memory.snapshot("monday")
        hashes = [memory.get_weight_hash()]
        memory.observe("the wind has turned")
        memory.forget(1)
        hashes.append(memory.get_weight_hash())
        memory.snapshot("tuesday")
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found = compare(memory_in(folder / "snapshots" / "tuesday"), memory_in(folder))
    assert (found.came, found.went) == ({}, {})
    assert found.before.hash == found.after.hash == hashes[1]
    assert {path: path.read_bytes() for path in before} == before  # SQLite may put an empty log of its own beside them
    assert found.before.records == {2: "bread is baked", 3: "the wind has turned"}
    assert all(one.distances is not None and one.distances[1] > 0 for one in found.changes)
    with pytest.raises(FileNotFoundError, match="no text memory in"):
        memory_in(tmp_path)
