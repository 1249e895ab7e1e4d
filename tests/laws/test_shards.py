"""Shards run side by side are shards run one after the other, each from the start, whatever the rule, the engine and the calls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retain import MemoryState, presets
from retain.core.engine import AbstractEngine
from retain.engines import Recurrent, in_shards
from tests.cases import CHOSEN, Case, willing
from tests.streams import Calls, World, calls, stretch_of, world, worlds
from tests.tolerances import GRADIENTS, assert_near

SHARDED = [case for case in CHOSEN if case.rule.anchor.residual == "none"]


def start_of(given: World, rows: int) -> MemoryState:
    return MemoryState.start(given.rule, given.initial, rows)


def side_by_side(given: World, engine: AbstractEngine, shard: int, handed: Calls) -> list[Tensor]:
    """The answers of each row, the stream being handed over in these calls."""
    state, done = start_of(given, given.tokens.batch), torch.zeros_like(given.lengths)
    rows: list[list[Tensor]] = [[given.tokens.v[b, :0, :, 0]] for b in range(given.tokens.batch)]
    for taken in handed:
        counts = torch.tensor(taken)
        tokens = stretch_of(given.tokens, done, counts)
        y, state = in_shards(engine, given.rule, tokens, state, counts, shard=shard, start=lambda n: start_of(given, n))
        for b, size in enumerate(taken):
            rows[b].append(y[b, :size])
        done = done + counts
    places = torch.where(done > 0, (done - 1) % shard + 1, 0)
    assert torch.equal(state.clock, places)
    return [torch.cat(parts) for parts in rows]


def one_by_one(given: World, shard: int) -> list[Tensor]:
    rows = []
    for b, length in enumerate(given.lengths.tolist()):
        parts = [given.tokens.v[b, :0, :, 0]]
        real = given.tokens.map(lambda t, b=b, stop=length: t[b : b + 1, :stop])
        for first in range(0, length, shard):
            tokens = real.map(lambda t, first=first: t[:, first : first + shard])
            parts.append(Recurrent().run(given.rule, tokens, start_of(given, 1))[0][0])
        rows.append(torch.cat(parts))
    return rows


@pytest.mark.parametrize("case", SHARDED, ids=repr)
@settings(max_examples=5)
@given(data=st.data())
def test_shards_side_by_side_are_shards_one_by_one(case: Case, data: st.DataObject) -> None:
    drawn, shard = data.draw(worlds(case)), data.draw(st.integers(1, 7))
    handed, engine = data.draw(calls(drawn.lengths)), data.draw(st.sampled_from(willing(case.rule)))
    ours, theirs = drawn.leaves(), drawn.leaves()
    mine, truth = side_by_side(ours, engine, shard, handed), one_by_one(theirs, shard)
    for b, (row, expected) in enumerate(zip(mine, truth, strict=True)):
        assert_near(row, expected, what=f"row {b}")
    if not any(row.numel() for row in truth):
        return
    (inputs, wanted), slopes = (w.inputs() for w in (ours, theirs)), []
    for rows, leaves in ((mine, inputs), (truth, wanted)):
        total = torch.stack([(row * torch.arange(1.0, 1 + row.numel()).reshape(row.shape)).sum() for row in rows]).sum()
        slopes.append(torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True))
    for name, got, expected in zip(inputs, *slopes, strict=True):
        assert_near(got, expected, GRADIENTS, f"gradient of {name}")


def test_a_shard_that_is_over_begins_from_the_weights_as_they_are_now() -> None:
    """The state may be cut off from its graph, and the start may have been learnt on since: the next shard knows nothing of it."""
    here = world(presets.titans(update_every=4), seed=0, batch=1, time=8)
    rule, lengths, engine = here.rule, torch.tensor([4]), Recurrent()
    head, tail = (here.tokens.map(lambda t, a=a: t[:, a : a + 4]) for a in (0, 4))
    _, state = in_shards(engine, rule, head, here.start, lengths, shard=4, start=lambda n: start_of(here, n))
    moved = replace(here, initial={name: (1.5 * w).requires_grad_() for name, w in here.initial.items()})
    y, _ = in_shards(engine, rule, tail, state.detach(), lengths, shard=4, start=lambda n: start_of(moved, n))
    assert_near(y, engine.run(rule, tail, start_of(moved, 1))[0])
    y.sum().backward()
    assert all(w.grad is not None and bool(w.grad.any()) for w in moved.initial.values())
    nothing, same = in_shards(engine, rule, tail.map(lambda t: t[:, :0]), state, torch.tensor([0]), shard=4, start=lambda n: start_of(moved, n))
    assert nothing.numel() == 0
    assert same.hash() == state.hash()
