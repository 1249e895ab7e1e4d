"""What a read draws on: held against the weights of linear attention, written out, and against differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain.core.rule import MemoryRule
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import Recurrent
from retain.inspection import read
from retain.inspection.draws import Draws, drawn
from retain.memory import presets
from tests.unit.inspection.pages import bytes_of, model_of

TIME, HEADS, WIDTH = 9, 2, 3


def _stretch(rule: MemoryRule, momentum: bool = False) -> tuple[Tokens, MemoryState]:
    torch.manual_seed(1)

    def some(*shape: int) -> Tensor:
        return torch.randn(1, TIME, HEADS, *shape, dtype=torch.float64)

    k, q = some(1, WIDTH), some(WIDTH)
    gates = {"retain": torch.rand(1, TIME, HEADS, dtype=torch.float64) * 0.5 + 0.5}
    if momentum:
        gates["momentum"] = torch.rand(1, TIME, HEADS, 1, dtype=torch.float64) * 0.5
    lr = torch.rand(1, TIME, HEADS, 1, dtype=torch.float64) * 0.3
    initial = {name: w.double() for name, w in rule.structure.init(HEADS, WIDTH, WIDTH).items()}
    return Tokens(k=k / k.norm(dim=-1, keepdim=True), v=some(1, WIDTH), q=q, lr=lr, **gates), MemoryState.start(rule, initial, 1)


def test_in_linear_attention_they_are_its_weights() -> None:
    rule = presets.retnet()
    tokens, state = _stretch(rule)
    (found,) = drawn(rule, tokens, state, [TIME - 1], first=100)
    assert (found.at, found.since) == (100 + TIME - 1, 100)
    assert tokens.q is not None
    assert tokens.retain is not None
    for head in range(HEADS):
        for s in range(TIME):
            kept = tokens.retain[0, s + 1 :, head].prod()
            expected = abs(float(kept * tokens.lr[0, s, head, 0] * (tokens.q[0, -1, head] @ tokens.k[0, s, head, 0])))
            assert float(found.weights[head, s]) == pytest.approx(expected, rel=1e-5)


def test_under_the_delta_rule_they_are_the_weights_of_values_too() -> None:
    """$M_t = a_t (I - \\theta_t k_t k_t^\\top) M_{t-1} + \\theta_t k_t v_t^\\top$, so a value comes to the answer by products of matrices on the side of keys."""
    rule = presets.gated_delta_net()
    tokens, state = _stretch(rule)
    (found,) = drawn(rule, tokens, state, [6])
    assert tokens.q is not None
    assert tokens.retain is not None
    for head in range(HEADS):
        for s in range(7):
            direction = tokens.lr[0, s, head, 0] * tokens.k[0, s, head, 0]
            for later in range(s + 1, 7):
                k, rate, kept = tokens.k[0, later, head, 0], tokens.lr[0, later, head, 0], tokens.retain[0, later, head]
                direction = kept * (direction - rate * k * (k @ direction))
            assert float(found.weights[head, s]) == pytest.approx(abs(float(tokens.q[0, 6, head] @ direction)), rel=1e-4)


def test_in_a_deep_memory_they_are_slopes_of_the_answers_length() -> None:
    rule = presets.titans(depth=2, expansion=2, update_every=4)
    tokens, state = _stretch(rule, momentum=True)
    many = drawn(rule, tokens, state, [3, TIME - 1])
    assert [one.at for one in many] == [3, TIME - 1]

    def lengths(v: Tensor, t: int) -> Tensor:
        y, _, _ = Recurrent().run(rule, replace(tokens, v=v), state)
        return y[0, t].norm(dim=-1)

    for found, written in zip(many, ([3], [0, 4, TIME - 1]), strict=True):
        for s in written:
            slopes = torch.zeros(HEADS, WIDTH)
            for i in range(WIDTH):
                step = torch.zeros_like(tokens.v)
                step[0, s, :, 0, i] = 1e-5
                slopes[:, i] = (lengths(tokens.v + step, found.at) - lengths(tokens.v - step, found.at)) / 2e-5
            torch.testing.assert_close(found.weights[:, s], slopes.norm(dim=1), rtol=1e-4, atol=1e-6)


def test_a_read_that_is_traced_less_far_tells_the_same_of_what_it_is_traced_to() -> None:
    tokens = bytes_of(150)
    model = model_of("lmm")
    far, near = (read(model, tokens, traced=[20, 149], span=span) for span in (1000, 40))
    assert far.since == (0, 0)
    assert near.since == (0, 96)  # stretches of 32 tokens, and 40 of them at least
    known = dict(zip(far.layers[0].places[1, 1].tolist(), far.layers[0].weights[1, 1].tolist(), strict=True))
    shared = [
        (p, w) for p, w in zip(near.layers[0].places[1, 1].tolist(), near.layers[0].weights[1, 1].tolist(), strict=True) if p in known and p >= 0
    ]
    assert len(shared) > 5
    for place, weight in shared:
        assert weight == pytest.approx(known[place], rel=1e-3)


def test_of_few_tokens_all_are_kept_and_nothing_is_made_up() -> None:
    places, weights, total = Draws(at=1, since=0, weights=torch.tensor([[2.0, 0.0]])).strongest(4)
    assert places.tolist() == [[0, -1, -1, -1]] * 2
    assert weights.tolist() == [[2.0, 0.0, 0.0, 0.0]] * 2
    assert total.tolist() == [2.0, 2.0]


def test_several_rows_are_refused() -> None:
    rule = presets.retnet()
    tokens, state = _stretch(rule)
    with pytest.raises(ValueError, match="one row, got 2"):
        drawn(rule, tokens.map(lambda x: torch.cat([x, x])), MemoryState.cat([state, state]), [0])
