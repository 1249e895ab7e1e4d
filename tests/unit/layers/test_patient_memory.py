"""A memory that looks at its tokens when a step is complete answers as one that looks at once."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from retain import MemoryState, NeuralMemory, load_state, presets, save_state
from retain.core.errors import StateMismatch
from retain.layers import RMS, Gates, PatientMemory, Projections

EVERY, TIME = 4, 23
PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without convolution": {"projections": Projections(conv=1)},
    "two pairs behind a norm": {"projections": Projections(pairs=2, prenorm=RMS())},
    "gates of the mean": {"gates": Gates(pool="mean")},
    "keys one token late, gates of an attention": {"gates": Gates(pool="attention"), "projections": Projections(start="recall")},
    "reads before": {"rule": presets.tnt(chunk=EVERY)},
    "two steps to a segment": {"rule": presets.titans(update_every=2 * EVERY, step_every=EVERY)},
    "keys of their own pair": {"projections": Projections(values="next")},
}
CUTS = ([0, 23], [*range(24)], [0, 1, 2, 3, 4, 5, 20, 23], [0, 6, 13, 14, 22, 23])


def twins(parts: dict[str, Any]) -> tuple[PatientMemory, NeuralMemory]:
    torch.manual_seed(0)
    parts = {"rule": presets.titans(update_every=EVERY, step_every=EVERY), **parts}
    patient, plain = PatientMemory(8, heads=2, **parts).double(), NeuralMemory(8, heads=2, **parts).double()
    plain.load_state_dict(patient.state_dict())
    return patient, plain


def given(batch: int) -> dict[str, Any]:
    """A call in which rows have tokens of their own lengths, some of which are not written, with a store and an emphasis."""
    source = torch.Generator().manual_seed(1)
    x, keys, values = (torch.randn(batch, TIME, 8, generator=source, dtype=torch.float64) for _ in range(3))
    draw, emphasis = (torch.rand(batch, TIME, generator=source, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(batch, TIME, generator=source) < 0.8
    return {"x": x, "store": (keys, values), "write_mask": draw < 0.7, "emphasis": emphasis, "mask": mask}


def between(call: dict[str, Any], lo: int, hi: int) -> dict[str, Any]:
    return {name: tuple(t[:, lo:hi] for t in part) if isinstance(part, tuple) else part[:, lo:hi] for name, part in call.items()}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    ("which", "batch"), [(("x",), 1), (("x", "store"), 2), (("x", "write_mask"), 1), (("x", "store", "write_mask", "emphasis", "mask"), 2)]
)
def test_however_a_stream_is_cut_the_answers_are_those_of_one_plain_call(name: str, which: tuple[str, ...], batch: int) -> None:
    patient, plain = twins(PARTS[name])
    call = {part: value for part, value in given(batch).items() if part in which}
    expected, plain_state, surprise = plain(**call, return_surprise=True)
    weights = plain.settle(plain_state)
    for cuts in CUTS:
        state: MemoryState | None = None
        outputs = []
        for lo, hi in pairwise(cuts):
            y, state, *seen = patient(**between(call, lo, hi), state=state, return_surprise=lo % 2 == 0)
            outputs.append(y)
            for part in seen:
                torch.testing.assert_close(part, surprise[:, lo:hi])
        assert state is not None
        torch.testing.assert_close(torch.cat(outputs, dim=1), expected)
        assert torch.equal(state.clock, plain_state.clock)
        settled = patient.settle(state)
        assert torch.equal(settled.clock, weights.clock)
        for weight, value in weights.accumulator.items():
            torch.testing.assert_close(settled.accumulator[weight], value)


def test_gradients_flow_through_tokens_that_waited() -> None:
    patient, plain = twins({})
    x = given(2)["x"]
    found: list[dict[str, Tensor]] = []
    for memory, cuts in ((plain, [0, TIME]), (patient, [0, 3, 4, 9, 10, 11, TIME])):
        state, total = None, torch.zeros((), dtype=torch.float64)
        for lo, hi in pairwise(cuts):
            y, state = memory(x[:, lo:hi], state)
            total = total + y.square().sum()
        total.backward()
        found.append({name: weight.grad for name, weight in memory.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad)


def test_reading_alone_changes_nothing_and_says_what_a_plain_memory_says() -> None:
    patient, plain = twins({})
    x = given(2)["x"]
    _, state = patient(x[:, :10])
    _, plain_state = plain(x[:, :10])
    y, after, surprise = patient(x[:, 10:], state, write=False, return_surprise=True)
    expected, _, expected_surprise = plain(x[:, 10:], plain_state, write=False, return_surprise=True)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(surprise, expected_surprise)
    assert after.hash() == state.hash()


def test_states_with_different_numbers_of_waiting_tokens_stand_side_by_side(tmp_path: Any) -> None:
    patient, _ = twins({})
    call = given(1)
    _, short = patient(call["x"][:, :5], write_mask=call["write_mask"][:, :5])
    _, long = patient(call["x"][:, :7])
    both = MemoryState.cat([short, long, patient.start(1)])
    save_state(both, tmp_path / "state.safetensors", patient.rule)
    both = load_state(tmp_path / "state.safetensors", patient.rule)
    more = call["x"][:, 7:16]
    together, _ = patient(more.expand(3, -1, -1), both)
    for row, state in enumerate((short, long, patient.start(1))):
        torch.testing.assert_close(together[row : row + 1], patient(more, state)[0])
        torch.testing.assert_close(patient(more, both[row : row + 1])[0], patient(more, state)[0])


def test_what_is_settled_can_be_read_and_the_next_token_begins_a_step() -> None:
    patient, _ = twins({"gates": Gates(lr=0.9)})
    x = given(1)["x"]
    _, state = patient(x[:, :3])
    start = patient.start(1)
    assert torch.equal(state.accumulator["w1"], start.accumulator["w1"])
    settled = patient.settle(state)
    assert settled.clock.tolist() == [EVERY]
    assert settled.waiting["waiting_keys"].shape[1] == 0
    assert not torch.equal(settled.accumulator["w1"], start.accumulator["w1"])
    again = patient(x[:, :3], state, return_surprise=True)[2]
    assert float(patient(x[:, :3], settled, return_surprise=True)[2].mean().detach()) < float(again.mean().detach())
    assert patient.settle(settled) is settled


def test_a_state_of_a_plain_memory_is_refused() -> None:
    patient, plain = twins({})
    _, state = plain(given(1)["x"][:, :10])
    with pytest.raises(StateMismatch, match="PatientMemory"):
        patient(given(1)["x"], state)
