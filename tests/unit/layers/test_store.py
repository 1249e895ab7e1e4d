"""What is written beside what is read: other tokens, other values, other weights of tokens, and the value behind."""

import pytest
import torch

from retain import NeuralMemory, Projections, presets
from tests.samples import DIM, layer, stream
from tests.tolerances import assert_near


def test_what_is_stored_may_be_another_stream() -> None:
    memory, x, other = layer("bare"), stream(), stream(seed=1)
    alone, _ = memory(x)
    y, stored = memory(x, store=other)
    _, expected = memory(other)
    for name, weight in expected.accumulator.items():
        assert_near(stored.accumulator[name], weight)
    assert float((y - alone).detach().abs().max()) > 1e-3


def test_keys_and_values_may_come_from_two() -> None:
    memory, x, keys, values = layer("bare"), stream(), stream(seed=1), stream(seed=2)
    swapped = memory(x, store=(values, keys))[0]
    assert_near(memory(x, store=(keys, keys))[0], memory(x, store=keys)[0])
    assert float((memory(x, store=(keys, values))[0] - swapped).detach().abs().max()) > 1e-3


def test_a_stored_stream_goes_on_where_it_stopped() -> None:
    memory, x, other = layer("attending"), stream(), stream(seed=1)
    whole, _ = memory(x, store=other)
    first, state = memory(x[:, :4], store=other[:, :4])
    then, _ = memory(x[:, 4:], state, store=other[:, 4:])
    assert_near(torch.cat([first, then], dim=1), whole)


def test_a_token_without_emphasis_leaves_no_trace_but_time_goes_on() -> None:
    memory, x = layer("bare"), stream()
    other = x.clone()
    other[:, 5] = stream(seed=3)[:, 5]
    emphasis = torch.ones(2, 11, dtype=torch.float64)
    emphasis[:, 5] = 0
    written, skipped = memory(x, emphasis=emphasis)[1], memory(x, write_mask=emphasis.bool())[1]
    differ = any(float((written.accumulator[name] - skipped.accumulator[name]).detach().abs().max()) > 1e-9 for name in memory.initial)
    assert differ  # a step was taken: what was there was forgotten a little, and its momentum went on
    with torch.no_grad():
        memory.gates.weight.zero_()  # gates that do not look at the token
    one, two = memory(x, emphasis=emphasis)[1], memory(other, emphasis=emphasis)[1]
    for name in memory.initial:
        assert_near(one.accumulator[name], two.accumulator[name])


def test_a_key_meets_the_value_behind_it() -> None:
    rule = presets.titans(expansion=1.5, update_every=4, step_every=4)
    plain = Projections(conv=1, activation=None)
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, rule=rule, projections=Projections(conv=1, activation=None, values="next")).double()
    same = NeuralMemory(DIM, rule=rule, projections=plain).double()
    same.load_state_dict(memory.state_dict())
    with torch.no_grad():
        for each in (memory, same):
            each.gates.weight.zero_()
    x = stream(time=4)
    moved = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
    emphasis = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64).expand(2, 4)
    expected = same(x, store=(moved, x), emphasis=emphasis)[1]
    for name, weight in memory(x)[1].accumulator.items():
        assert_near(weight, expected.accumulator[name])


def test_one_initial_memory_for_all_heads() -> None:
    memory = layer("bare").share_initial()
    start = memory.start(3)
    for weight in start.accumulator.values():
        assert torch.equal(weight[:, 0], weight[:, 1])
    memory(stream())[0].sum().backward()
    assert all(w.grad is not None and w.shape[0] == 1 for w in memory.initial.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"store": torch.zeros(2, 3, DIM)}, "token by token"),
        ({"emphasis": torch.ones(2, 3)}, "emphasis"),
    ],
)
def test_what_does_not_lie_beside_the_stream_is_refused(given: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer()(stream(), **given)  # pyright: ignore[reportArgumentType]


def test_a_step_of_one_pair_has_no_value_behind() -> None:
    with pytest.raises(ValueError, match="step_every"):
        NeuralMemory(DIM, projections=Projections(values="next"))
