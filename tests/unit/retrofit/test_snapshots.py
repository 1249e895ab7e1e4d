"""What a conversation has taught the memories: on disk and back, forked, and back at the start row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.core.errors import DamagedStateFile, ForeignState, NotAStateFile, StateMismatch
from retain.retrofit import MarkedTokens, MemoryCache, branches_of, load_memory, reset_rows, save_memory
from retain.storage import save_state
from tests.unit.retrofit.bases import FAMILIES, base, retrofitted, words


def _read(model: Any, tokens: Tensor, cache: MemoryCache | None = None) -> tuple[Tensor, MemoryCache]:
    with torch.no_grad():
        out = model(tokens, past_key_values=cache)
    return out.logits, out.past_key_values


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("time", [4, 7])
def test_what_was_learnt_comes_back_bit_by_bit_and_goes_on_exactly(family: str, time: int, tmp_path: Path) -> None:
    model = retrofitted(family, writes=MarkedTokens((1,), (2,)))
    tokens = words(2, time).clamp(min=3)
    tokens[0, 1] = 1
    _, cache = _read(model, tokens)
    save_memory(cache, model, tmp_path / "talk")
    back = load_memory(model, tmp_path / "talk")
    assert back.hash() == cache.hash()
    assert back.get_seq_length() == 0
    assert {rule: kept.tolist() for rule, kept in back.marks.items()} == {rule: kept.tolist() for rule, kept in cache.marks.items()}
    assert back.marks[MarkedTokens((1,), (2,))][0, 0] == 1
    more = words(2, 9, seed=5)
    (one, after_one), (other, after_other) = _read(model, more, cache.memories_only()), _read(model, more, back)
    assert torch.equal(one, other)
    assert after_one.hash() == after_other.hash() != cache.hash()


def test_the_file_does_not_grow_with_the_conversation(tmp_path: Path) -> None:
    model = retrofitted()
    for time in (8, 80):
        save_memory(_read(model, words(1, time))[1], model, tmp_path / str(time))
    assert (tmp_path / "8").stat().st_size == (tmp_path / "80").stat().st_size


def test_memories_of_other_weights_or_another_configuration_refuse_it(tmp_path: Path) -> None:
    model = retrofitted()
    save_memory(_read(model, words())[1], model, tmp_path / "talk")
    with torch.no_grad():
        branches_of(model)[1].strength.add_(1e-9)
    for other in (model, retrofitted(seed=1), retrofitted(writes=MarkedTokens((1,), (2,)))):
        with pytest.raises(ForeignState, match="by a model with other memories"):
            load_memory(other, tmp_path / "talk")
    assert load_memory(retrofitted(), tmp_path / "talk").rows == 2


def test_what_is_no_snapshot_or_damaged_is_refused(tmp_path: Path) -> None:
    model, path = retrofitted(), tmp_path / "talk"
    _, cache = _read(model, words())
    save_state(cache.memories[0], path, branches_of(model)[0].memory.rule)
    with pytest.raises(NotAStateFile, match="is not a saved snapshot of a conversation's memory; save_memory writes one"):
        load_memory(model, path)
    torch.save({"memories": torch.ones(2)}, path)
    with pytest.raises(NotAStateFile):
        load_memory(model, path)
    save_memory(cache, model, path)
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DamagedStateFile, match="checksum does not agree"):
        load_memory(model, path)


def test_caches_of_nothing_and_of_other_models_are_refused(tmp_path: Path) -> None:
    model, tokens = retrofitted(), words()
    other = _read(retrofitted(layers=(1,)), tokens)[1]
    for cache in (MemoryCache(model.config), other):
        with pytest.raises(StateMismatch, match="the model has 2"):
            save_memory(cache, model, tmp_path / "never")
        with pytest.raises(StateMismatch, match="the model has 2"):
            reset_rows(cache, model, torch.tensor([True, True]))
    with pytest.raises(ValueError, match="has no memories"):
        load_memory(base(), tmp_path / "never")
    assert not list(tmp_path.iterdir())


def test_a_fork_and_what_it_was_forked_from_go_on_by_themselves() -> None:
    model, tokens = retrofitted(), words()
    _, cache = _read(model, tokens)
    before, fork = cache.hash(), cache.fork()
    left, right = words(2, 6, seed=2), words(2, 6, seed=3)
    one, _ = _read(model, left, fork)
    assert cache.hash() == before
    assert (cache.get_seq_length(), fork.get_seq_length()) == (13, 19)
    other, _ = _read(model, right, cache)
    assert len({before, cache.hash(), fork.hash()}) == 3
    for more, got in ((left, one), (right, other)):
        torch.testing.assert_close(got, _read(model, torch.cat([tokens, more], 1))[0][:, 13:])


def test_rows_that_are_reset_begin_anew_and_the_others_go_on() -> None:
    rule = MarkedTokens((1,), (2,))
    model, tokens, more = retrofitted(writes=rule), words(3, 7).clamp(min=3), words(3, 6, seed=4)
    tokens[:, 0] = 1
    _, cache = _read(model, tokens)
    before, rows = cache.hash(), torch.tensor([False, True, False])
    new = reset_rows(cache, model, rows)
    assert cache.hash() == before
    assert new.get_seq_length() == 7
    assert new.marks[rule][:, 0].tolist() == [1, 0, 1]
    got, _ = _read(model, more, new.memories_only())
    fresh, _ = _read(model, more)
    old, _ = _read(model, more, cache.memories_only())
    torch.testing.assert_close(got, torch.where(rows[:, None, None], fresh, old))
    assert not torch.allclose(fresh, old)
    for wrong in (torch.tensor([True]), torch.tensor([0, 1, 0])):
        with pytest.raises(ValueError, match="a mask of 3 rows"):
            reset_rows(cache, model, wrong)


def test_a_hash_names_what_is_held() -> None:
    model, tokens = retrofitted(), words()
    (_, one), (_, same), (_, other) = (_read(model, t) for t in (tokens, tokens, words(seed=9)))
    assert one.hash() == same.hash() == one.memories_only().hash() == one.detach().hash()
    assert one.hash() != other.hash()
    assert len(one.hash()) == 16
