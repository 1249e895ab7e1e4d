"""The layer: streams cut anywhere, padding and packing, reading without writing, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retain import Anchor, MemoryRule, MemoryState, NeuralMemory, Projections, presets
from tests.samples import LAYERS, layer, stream
from tests.tolerances import assert_near

every_layer = pytest.mark.parametrize("name", LAYERS)


def same_memory(ours: MemoryState, theirs: MemoryState) -> None:
    """Two states of one layer stand at one place: what is pending may be folded differently, so both read the same next tokens."""
    assert torch.equal(ours.clock, theirs.clock)
    for field in ("accumulator", "anchor", "buffers"):
        for weight, value in getattr(theirs, field).items():
            assert_near(getattr(ours, field)[weight], value, what=f"{field} {weight}")


# ---- one stream, any calls


@every_layer
@given(cuts=st.lists(st.integers(0, 11), max_size=3), seed=st.integers(0, 999))
def test_a_stream_cut_anywhere_is_the_stream(name: str, cuts: list[int], seed: int) -> None:
    memory, x = layer(name), stream(seed=seed)
    whole, end, surprise = memory(x, return_surprise=True)
    state, parts, surprises = None, [], []
    bounds = [0, *sorted(cuts), 11]
    for start, stop in pairwise(bounds):
        y, state, found = memory(x[:, start:stop], state, return_surprise=True)
        parts.append(y)
        surprises.append(found)
    assert_near(torch.cat(parts, dim=1), whole, what="outputs")
    assert_near(torch.cat(surprises, dim=1), surprise, what="surprise")
    same_memory(state, end)


@every_layer
def test_token_by_token_without_gradients_is_the_stream(name: str) -> None:
    memory, x, state, parts = layer(name), stream(), None, []
    with torch.no_grad():
        for t in range(11):
            y, state = memory(x[:, t : t + 1], state)
            parts.append(y)
    assert_near(torch.cat(parts, dim=1), memory(x)[0], what="outputs")


@every_layer
def test_the_future_is_not_seen(name: str) -> None:
    memory, x = layer(name), stream()
    for t in range(11):
        assert torch.equal(memory(torch.cat([x[:, :t], stream(seed=1)[:, t:]], dim=1))[0][:, :t], memory(x)[0][:, :t])


@every_layer
@given(data=st.data())
def test_padding_anywhere_leaves_no_trace(name: str, data: st.DataObject) -> None:
    memory, x = layer(name), stream(batch=3)
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=11, max_size=11)) for _ in range(3)])
    spoilt = torch.where(mask.unsqueeze(-1), x, torch.nan)
    y, state, surprise = memory(spoilt, mask=mask, return_surprise=True)
    assert not y[~mask].any()
    assert not surprise[~mask].any()
    more = stream(batch=3, time=3, seed=5)
    later = memory(more, state)[0]
    for b in range(3):
        alone, after, alone_surprise = memory(x[b : b + 1, mask[b]], return_surprise=True)
        assert_near(y[b, mask[b]], alone[0], what="outputs")
        assert_near(surprise[b, mask[b]], alone_surprise[0], what="surprise")
        assert int(state.clock[b]) == int(mask[b].sum())
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")


@every_layer
def test_packed_sequences_are_rows_of_their_own(name: str) -> None:
    memory, x, bounds = layer(name), stream(batch=1, time=12), [0, 5, 5, 6, 12]
    y, state, surprise = memory(x, cu_seqlens=torch.tensor(bounds), return_surprise=True)
    more = stream(batch=4, time=1, seed=5)
    later = memory(more, state)[0]
    for b, (start, stop) in enumerate(pairwise(bounds)):
        alone, after, alone_surprise = memory(x[:, start:stop], return_surprise=True)
        assert_near(y[:, start:stop], alone, what="outputs")
        assert_near(surprise[:, start:stop], alone_surprise, what="surprise")
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")
    assert state.clock.tolist() == [5, 0, 1, 6]


@every_layer
def test_rows_at_different_places_decode_token_by_token(name: str) -> None:
    memory, x = layer(name), stream(batch=3, time=16)
    lengths = [2, 7, 0]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        _, state = memory(torch.where(mask.unsqueeze(-1), x[:, :7], 0.0), mask=mask)
        for step in range(9):
            token = torch.stack([x[b, length + step] for b, length in enumerate(lengths)]).unsqueeze(1)
            y, state = memory(token, state)
            for b, length in enumerate(lengths):
                assert_near(y[b, 0], memory(x[b : b + 1, : length + step + 1])[0][0, -1], what=f"row {b}, step {step}")


@every_layer
def test_a_reset_row_begins_anew_and_the_others_go_on(name: str) -> None:
    memory, x, more = layer(name), stream(batch=3), stream(batch=3, time=7, seed=1)
    _, state = memory(x)
    y, after = memory(more, memory.reset(state, torch.tensor([False, True, False])))
    fresh, going_on = memory(more)[0], memory(more, state)[0]
    assert_near(y, torch.stack([going_on[0], fresh[1], going_on[2]]))
    assert after.clock.tolist() == [18, 7, 18]
    assert memory.reset(memory.start(2), torch.tensor([True, False])).clock.tolist() == [0, 0]


# ---- writing and not writing


@pytest.mark.equation("titans", 15)
@every_layer
def test_reading_only_leaves_the_state_as_it_is(name: str) -> None:
    memory = layer(name)
    _, state = memory(stream())
    before = state.hash()
    y, after = memory(stream(seed=1), state, write=False)
    assert after is state
    assert state.hash() == before
    single = torch.cat([memory(stream(seed=1)[:, :1], state, write=False)[0]], dim=1)
    assert_near(y[:, :1], single)
    assert memory(stream(), write=False)[1].hash() == memory.start(2).hash()


@pytest.mark.parametrize(
    "rule",
    [
        presets.titans(update_every=6, step_every=3),
        replace(presets.titans(update_every=3), anchor=Anchor(transition="gated")),
        presets.memora(update_every=4, exposed="boundary"),
    ],
    ids=["long steps", "gated transition", "links at boundaries"],
)
def test_reading_only_completes_no_step_and_crosses_no_boundary(rule: MemoryRule) -> None:
    """Tokens that wait in the state stay there, and what the clock would do to the memory on the way is not done."""
    memory = NeuralMemory(6, heads=2, rule=rule, projections=Projections(conv=1)).double()
    _, state = memory(stream()[:, :5])
    x = stream(seed=1)
    y = memory(x, state, write=False)[0]
    for t in range(11):
        assert_near(y[:, t : t + 1], memory(x[:, t : t + 1], state, write=False)[0])


@every_layer
def test_reading_only_answers_from_the_memory_as_it_stands(name: str) -> None:
    """No token that is only read is learnt from, whatever the others hold."""
    if LAYERS[name].get("projections", Projections()).conv == 1:  # pyright: ignore[reportAttributeAccessIssue]
        memory = layer(name)
        _, state = memory(stream())
        x = stream(seed=1)
        y = memory(x, state, write=False)[0]
        for t in range(11):
            assert_near(y[:, t : t + 1], memory(x[:, t : t + 1], state, write=False)[0])
    memory = layer(name)
    start = memory.start(2)
    y, after = memory(stream(), write_mask=torch.zeros(2, 11, dtype=torch.bool))
    for weight, value in start.accumulator.items():
        assert torch.equal(after.accumulator[weight], value)
    assert_near(y, memory(stream(), write=False)[0])


@every_layer
def test_tokens_left_out_by_the_write_mask_are_not_learnt_but_counted(name: str) -> None:
    memory, mask = layer(name), torch.tensor([[True] * 4 + [False] * 3 + [True] * 4, [True] * 11])
    y, state = memory(stream(), write_mask=mask)
    everything, all_written = memory(stream())
    assert state.clock.tolist() == [11, 11]
    assert_near(y[1], everything[1])
    first = 4 if memory.rule.reads == "after" else 5
    assert_near(y[0, :4], everything[0, :4])
    assert not torch.allclose(y[0, first:], everything[0, first:], rtol=0, atol=1e-9)
    same = memory(stream(), write_mask=torch.ones(2, 11, dtype=torch.bool))[1]
    for weight, expected in all_written.accumulator.items():
        assert_near(same.accumulator[weight], expected)


# ---- learning to learn


@every_layer
def test_gradients_reach_every_parameter(name: str) -> None:
    memory = layer(name)
    memory(stream(time=14))[0].square().sum().backward()
    for path, weight in memory.named_parameters():
        assert weight.grad is not None, path
        assert bool(torch.isfinite(weight.grad).all()), path
        assert bool(weight.grad.any()), path


@pytest.mark.equation("titans", 11)
def test_keys_values_and_gates_learn_through_the_writes_alone() -> None:
    """What a later token reads depends on what earlier ones wrote: the gradient is that of a difference quotient."""
    memory, x = layer("titans"), stream(time=9)
    for weight in (memory.projections.to_k.weight, memory.projections.to_v.weight, memory.gates.weight, memory.initial["w0"]):
        memory.zero_grad()
        memory(x)[0][:, -1].sum().backward()
        assert weight.grad is not None
        place, small = weight.grad.abs().argmax(), 1e-6
        slope = []
        with torch.no_grad():
            for change in (small, -2 * small):
                weight.view(-1)[place] += change
                slope.append(float(memory(x)[0][:, -1].sum()))
            weight.view(-1)[place] += small
        assert float(weight.grad.view(-1)[place]) == pytest.approx((slope[0] - slope[1]) / (2 * small), rel=1e-5)


def test_a_layer_with_several_heads_trains_and_loads() -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(8, heads=4), torch.randn(2, 70, 8)
    optimiser = torch.optim.AdamW(memory.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = (memory(x)[0] - x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    other = NeuralMemory(8, heads=4)
    assert not torch.equal(other(x)[0], memory(x)[0])
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(x)[0], memory(x)[0])


def test_the_parameters_of_a_detached_stream_still_learn() -> None:
    memory = layer()
    _, state = memory(stream())
    state = state.detach()
    assert not any(t.requires_grad for _, t in state.tensors())
    memory(stream(seed=1), state)[0].sum().backward()
    assert memory.projections.to_k.weight.grad is not None
    assert memory.initial["w0"].grad is None
