"""States on disk: they come back bit by bit, and whatever is not one of ours, or not whole, is refused by name."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from retain import MemoryState, NeuralMemory, Projections, load_state, presets, save_state, storage
from retain.core.errors import DamagedStateFile, ForeignState, NotAStateFile, StateFileError, UnsupportedStateVersion
from retain.engines import Dual
from tests.cases import CHOSEN, JUDGE, Case, willing
from tests.streams import assert_same, run, world

RULE = presets.titans(expansion=1.5, update_every=8)


def _memory() -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, rule=RULE, projections=Projections(conv=3))


def _written(path: Path, time: int = 13) -> MemoryState:
    state = _memory()(torch.randn(2, time, 8, generator=torch.Generator().manual_seed(1)))[1]
    save_state(state, path, RULE)
    return state


@pytest.mark.parametrize("time", [0, 5, 8, 13])
def test_a_state_comes_back_bit_by_bit_and_goes_on_exactly(tmp_path: Path, time: int) -> None:
    memory, path, more = _memory(), tmp_path / "notes.memory", torch.randn(2, 11, 8, generator=torch.Generator().manual_seed(2))
    state = _written(path, time)
    back = load_state(path, RULE)
    assert back.hash() == state.hash()
    assert (state.pending is None) == (time % 8 == 0)
    with torch.no_grad():
        (expected, after), (got, after_back) = memory(more, state), memory(more, back)
    assert torch.equal(got, expected)
    assert after_back.hash() == after.hash()
    assert torch.equal(back.clock, state.clock)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_states_of_every_rule_come_back(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "state"
    for engine in (*willing(case.rule), JUDGE):
        here = world(case.rule, 1, batch=2, time=9).cut([9, 7], masked=True)
        _, state, _ = engine.run(case.rule, here.tokens, here.start, here.lengths)
        save_state(state, path, case.rule)
        back = load_state(path, case.rule)
        assert back.hash() == state.hash()
        assert [name for name, _ in back.tensors()] == [name for name, _ in state.tensors()]
        if engine is JUDGE:  # what it goes on from is what it holds
            continue
        more = here.tokens.map(lambda t: t[:, :4])
        for ours, theirs in zip(engine.run(case.rule, more, back)[::2], engine.run(case.rule, more, state)[::2], strict=True):
            assert torch.equal(ours, theirs)


def test_a_state_may_be_gone_on_from_by_another_engine(tmp_path: Path) -> None:
    here = world(RULE, 1, batch=2, time=13)
    _, state, _ = Dual().run(RULE, here.tokens.map(lambda t: t[:, :5]), here.start)
    save_state(state, tmp_path / "state", RULE)
    y, _, _ = JUDGE.run(RULE, here.tokens.map(lambda t: t[:, 5:]), load_state(tmp_path / "state", RULE))
    expected = run(here, [JUDGE])
    assert_same(replace(expected, y=torch.cat([expected.y[:, :5], y], dim=1)), expected)


def test_a_state_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for dtype in (torch.float64, torch.bfloat16):
        state = _written(path).to(dtype=dtype)
        save_state(state, path, RULE)
        back = load_state(path, RULE)
        assert back.hash() == state.hash()
        assert {t.dtype for t in back.accumulator.values()} == {dtype}


def test_a_graph_is_not_saved(tmp_path: Path) -> None:
    _written(tmp_path / "state")
    assert not any(t.requires_grad for _, t in load_state(tmp_path / "state", RULE).tensors())


# ---- damage


def _header_length(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "state"
    _written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StateFileError, match=r"save_state writes one|Go back to a copy"):
        load_state(path, RULE)


def test_a_file_cut_in_its_numbers_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedStateFile, match="Go back to a copy"):
        load_state(path, RULE)


def test_a_file_with_something_behind_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedStateFile):
        load_state(path, RULE)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In the length, all over the header, the rule's name, the checksum and the numbers."""
    path = tmp_path / "state"
    _written(path, time=5)
    whole = path.read_bytes()
    border = _header_length(whole)
    places = [*range(8), *range(8, border, 3), *range(border, len(whole), max(1, (len(whole) - border) // 60)), len(whole) - 1]
    for i, place in enumerate(places):
        broken = bytearray(whole)
        broken[place] ^= 1 << (i % 8)
        path.write_bytes(broken)
        with pytest.raises(StateFileError):
            load_state(path, RULE)


def test_a_flipped_bit_in_the_numbers_is_named_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    whole = bytearray(path.read_bytes())
    whole[_header_length(bytes(whole)) + 5] ^= 4
    path.write_bytes(whole)
    with pytest.raises(DamagedStateFile, match="checksum does not agree"):
        load_state(path, RULE)


def test_a_changed_checksum_is_named_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    whole = bytearray(path.read_bytes())
    at = whole.index(b'"checksum":"') + len(b'"checksum":"')
    whole[at] = ord("0") if whole[at] != ord("0") else ord("1")
    path.write_bytes(whole)
    with pytest.raises(DamagedStateFile, match="checksum does not agree"):
        load_state(path, RULE)


def test_a_tensor_left_out_or_renamed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    length = _header_length(path.read_bytes())
    metadata = json.loads(path.read_bytes()[8:length])["__metadata__"]
    tensors = load_file(path)
    for name in list(tensors):
        for changed in ({n: t for n, t in tensors.items() if n != name}, {n + ("x" if n == name else ""): t for n, t in tensors.items()}):
            save_file(changed, path, metadata=metadata)
            with pytest.raises(DamagedStateFile):
                load_state(path, RULE)


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    with monkeypatch.context() as later:
        later.setattr(storage, "VERSION", "2")
        _written(path)
    with pytest.raises(UnsupportedStateVersion, match=r"format '2'; this version of retain reads '1'"):
        load_state(path, RULE)


def test_another_rule_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    for other in (presets.titans(), presets.titans(expansion=1.5, update_every=16), presets.delta_net()):
        with pytest.raises(ForeignState, match="written under another rule") as caught:
            load_state(path, other)
        assert repr(RULE) in str(caught.value)
        assert repr(other) in str(caught.value)


class _Trap:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("kind", ["empty", "text", "checkpoint", "pickle", "safetensors", "compressed", "long"])
def test_what_is_no_state_is_refused_and_never_run(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    if kind == "checkpoint":
        torch.save({"w": torch.ones(3)}, path)
    elif kind == "pickle":
        torch.save(_Trap(), path)
    elif kind == "safetensors":
        save_file({"w": torch.ones(3)}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"{}", "compressed": zlib.compress(b"x" * 999), "long": b"\xff" * 64}[kind])
    with pytest.raises(NotAStateFile, match="is not a saved memory state; save_state writes one"):
        load_state(path, RULE)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "nowhere", RULE)


# ---- writing whole or not at all


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    old = _written(path)
    new = old.map(lambda t: t + 1 if t.is_floating_point() else t)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(OSError, match="no space left"):
            save_state(new, path, RULE)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    assert load_state(path, RULE).hash() == old.hash()


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _written(path)
    newer = _written(path, time=3)
    assert load_state(path, RULE).hash() == newer.hash()


def test_a_state_is_not_touched_by_being_saved(tmp_path: Path) -> None:
    state = _memory()(torch.randn(2, 5, 8))[1]
    before = state.hash()
    save_state(state, tmp_path / "state", RULE)
    assert state.hash() == before
