"""A state is a value: it can be cut off, copied, moved, chosen from, joined, named, measured, forked and rolled back to."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import Tensor

from retain import MemoryState, NeuralMemory, Projections, presets
from retain.core.errors import StateMismatch
from retain.core.tokens import Tokens
from tests.tolerances import assert_near

RULE = presets.titans(expansion=1.5, update_every=4, step_every=2)


def _memory() -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(6, heads=2, rule=RULE, projections=Projections(conv=3)).double()


def _x(time: int, batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _state(time: int = 7, batch: int = 3, seed: int = 0) -> MemoryState:
    return _memory()(_x(time, batch, seed))[1]


def _goes_on(state: MemoryState) -> Tensor:
    return _memory()(_x(5, state.batch, seed=9), state)[0]


def test_a_state_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        _state().clock = torch.zeros(3)  # pyright: ignore[reportAttributeAccessIssue]


def test_detaching_cuts_the_graph_and_nothing_else() -> None:
    state = _state()
    assert any(t.requires_grad for _, t in state.tensors())
    cut = state.detach()
    assert not any(t.requires_grad for _, t in cut.tensors())
    assert cut.hash() == state.hash()
    assert torch.equal(_goes_on(cut), _goes_on(state))


def test_a_clone_shares_no_storage() -> None:
    state = _state().detach()
    copy, before = state.clone(), state.hash()
    assert copy.hash() == before
    theirs = {t.untyped_storage().data_ptr() for _, t in state.tensors() if t.numel()}
    assert not theirs & {t.untyped_storage().data_ptr() for _, t in copy.tensors() if t.numel()}
    for _, tensor in copy.tensors():
        tensor.zero_()
    assert state.hash() == before


def test_a_cast_leaves_counters_and_masks_alone() -> None:
    x, write = _x(7), torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    _, state = _memory()(x, write_mask=write)
    for path, tensor in state.to(dtype=torch.float32).tensors():
        original = dict(state.tensors())[path]
        assert tensor.dtype == (torch.float32 if original.is_floating_point() else original.dtype)
        assert_near(tensor.to(original.dtype), original.to(tensor.dtype).to(original.dtype))
    assert state.to("cpu").hash() == state.hash()


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0], [1, 1, 1, 0], slice(0, 0)], ids=str)
def test_rows_are_chosen_and_reordered(rows: slice | list[int]) -> None:
    """As in a beam search: rows may be left out, repeated and put in another order, and go on as they would have."""
    state = _state()
    chosen, names = state[rows], list(range(3))[rows] if isinstance(rows, slice) else rows
    assert chosen.batch == len(names)
    assert chosen.clock.tolist() == [7] * len(names)
    if names:
        more = _x(5, 3, seed=9)
        assert_near(_memory()(more[names], chosen)[0], _memory()(more, state)[0][names])


def test_rows_may_be_chosen_by_a_mask() -> None:
    state = _state()
    assert state[torch.tensor([True, False, True])].hash() == state[[0, 2]].hash()
    with pytest.raises(IndexError, match="chosen by a slice or by one axis of indices"):
        state[torch.zeros(2, 2, dtype=torch.long)]


@pytest.mark.parametrize("times", [(7, 7), (7, 4), (4, 7), (5, 6), (4, 8)])
def test_states_are_joined_wherever_they_stand(times: tuple[int, int]) -> None:
    states = [_state(time, batch, seed=time) for time, batch in zip(times, (2, 1), strict=True)]
    joined = MemoryState.cat(states)
    assert joined.clock.tolist() == [times[0], times[0], times[1]]
    more = _x(5, 3, seed=9)
    expected = torch.cat([_memory()(more[:2], states[0])[0], _memory()(more[2:], states[1])[0]])
    assert_near(_memory()(more, joined)[0], expected)
    assert_near(_memory()(more[:2], joined[:2])[0], expected[:2])


def test_where_takes_each_row_from_one_of_two() -> None:
    ours, theirs, more = _state(7), _state(5, seed=3), _x(5, 3, seed=9)
    mixed = MemoryState.where(torch.tensor([True, False, True]), ours, theirs)
    assert mixed.clock.tolist() == [7, 5, 7]
    first, second = _memory()(more, ours)[0], _memory()(more, theirs)[0]
    assert_near(_memory()(more, mixed)[0], torch.stack([first[0], second[1], first[2]]))
    with pytest.raises(StateMismatch, match="one mask entry a row, got 2 entries and states of 3 and 3 rows"):
        MemoryState.where(torch.tensor([True, False]), ours, theirs)


def test_states_of_different_rules_are_not_joined() -> None:
    other = NeuralMemory(6, heads=2, rule=presets.delta_net()).double().start(1)
    with pytest.raises(StateMismatch, match="cannot be joined: they hold different tensors"):
        MemoryState.cat([_memory().start(1), other])


def test_a_hash_names_the_numbers() -> None:
    state = _state()
    assert state.hash() == _state().hash() == state.clone().hash()
    assert len(state.hash()) == 16
    assert int(state.hash(), 16) >= 0
    for path, _ in state.tensors():
        changed = state.clone()
        tensor = dict(changed.tensors())[path].detach()
        if tensor.numel():
            tensor.view(-1)[-1] += 1 if tensor.dtype != torch.bool else True
            if tensor.dtype != torch.bool:
                assert changed.hash() != state.hash(), path
    assert state[[1, 0, 2]].hash() != state.hash()
    assert state.to(dtype=torch.float32).hash() != state.hash()


def test_a_fork_goes_two_ways_and_a_kept_state_is_a_roll_back() -> None:
    kept = _state()
    before = kept.hash()
    left, right = (_memory()(_x(6, seed=seed), kept)[1] for seed in (1, 2))
    assert left.hash() != right.hash()
    assert kept.hash() == before
    assert _memory()(_x(6, seed=1), kept)[1].hash() == left.hash()


def test_norms_and_distances_are_those_of_the_weights() -> None:
    memory = _memory()
    start, state = memory.start(3), _state(8)
    for weight, norm in state.norms().items():
        value = state.accumulator[weight]
        assert_near(norm, value.square().flatten(2).sum(-1).sqrt())
        assert_near(state.distance(start)[weight], (value - start.accumulator[weight]).square().flatten(2).sum(-1).sqrt())
        assert bool((state.distance(start)[weight] > 0).all())
        assert not state.distance(state)[weight].any()


def test_the_size_of_a_state_does_not_grow_with_what_was_read() -> None:
    sizes = {sum(t.numel() for _, t in _state(time).tensors()) for time in (8, 16, 80)}
    assert len(sizes) == 1
    partial = [sum(t.numel() for _, t in _state(time).tensors()) for time in (7, 15, 79)]
    assert len(set(partial)) == 1


def test_what_waits_is_counted() -> None:
    state = _state(7)
    assert state.pending is not None
    assert (state.folded + state.pending.count).tolist() == [7, 7, 7]
    assert (state.folded % 2 == 0).all()
    assert _state(8).folded.tolist() == [8, 8, 8]


def test_every_row_of_a_start_is_the_initial_memory() -> None:
    memory = _memory()
    start = memory.start(3)
    for weight, value in memory.initial.items():
        for row in start.accumulator[weight]:
            assert torch.equal(row, value)
    assert len(start.moments) == 1
    assert not any(bool(m.any()) for m in start.moments[0].values())
    assert start.clock.tolist() == [0, 0, 0]


def test_all_tokens_are_written_unless_a_mask_says_otherwise() -> None:
    k, v, lr = torch.zeros(2, 3, 1, 1, 4), torch.zeros(2, 3, 1, 1, 4), torch.zeros(2, 3, 1, 1)
    tokens = Tokens(k=k, v=v, lr=lr)
    assert (tokens.batch, tokens.time) == (2, 3)
    assert bool(tokens.written.all())
    write = torch.tensor([[True, False, True], [False, False, True]])
    assert torch.equal(replace(tokens, write=write).written, write)
