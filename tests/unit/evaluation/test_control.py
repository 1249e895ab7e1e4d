"""Controls, on real models: each takes away what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.blocks import Block, BlockState
from retain.core.shapes import Params
from retain.evaluation import AbstractCut, MemoryReset, WindowCut
from retain.evaluation.stream import Stream, starts_of
from retain.layers import NeuralMemory
from retain.models import RetainCache, RetainForCausalLM
from tests.tolerances import assert_near
from tests.unit.evaluation.oracle import small
from tests.unit.models.test_generate import KINDS, config, tokens

KEPT = ("past/", "levels/")  # in a block's tensors: what memories and levels hold
every_kind = pytest.mark.parametrize("kind", KINDS)


def after(speaker: RetainForCausalLM, x: Tensor, write: bool = True) -> RetainCache:
    with torch.no_grad():
        return speaker(x, write=write).past_key_values


def cut(speaker: RetainForCausalLM, cache: RetainCache, *controls: AbstractCut) -> RetainCache:
    stream = Stream(speaker, cache=cache.fork())
    for control in controls:
        stream.cut(control, torch.ones(cache.batch, dtype=torch.bool))
    return stream.cache


def answers(speaker: RetainForCausalLM, cache: RetainCache, x: Tensor) -> Tensor:
    with torch.no_grad():
        return speaker(x, past_key_values=cache.fork()).logits


def blocks(speaker: RetainForCausalLM) -> list[Block]:
    return [layer for layer in speaker.model.layers if isinstance(layer, Block)]


def weights(speaker: RetainForCausalLM, states: tuple[BlockState, ...]) -> list[Params]:
    """With which the memories of a model would answer now."""
    found = []
    for block, state in zip(blocks(speaker), states, strict=True):
        for name, memory in state.memories.items():
            layer = block.mixer.get_submodule(name)
            found.append(layer.weights(memory) if isinstance(layer, NeuralMemory) else memory.accumulator)
        found.append({name: tensor for name, tensor in state.tensors.items() if "/weights/" in name})
    return found


def starts(speaker: RetainForCausalLM, batch: int) -> tuple[BlockState, ...]:
    return tuple(block.start(batch) for block in blocks(speaker))


def same(one: list[Params], other: list[Params]) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def has_memory(kind: str) -> bool:
    return any(name != "sliding_window" for name in config(kind).blocks)


@every_kind
def test_without_writing_memories_stay_as_they_start(kind: str) -> None:
    speaker, x = small(kind), tokens(2, 7)
    with torch.no_grad():
        fresh = weights(speaker, starts(speaker, 2))
    assert same(weights(speaker, after(speaker, x, write=False).states), fresh)
    assert not same(weights(speaker, after(speaker, x).states), fresh)


@every_kind
def test_a_reset_puts_the_weights_back_and_leaves_the_rest(kind: str) -> None:
    speaker, x = small(kind), tokens(2, 7)
    cache = after(speaker, x)
    with torch.no_grad():
        fresh, states = starts(speaker, 2), cut(speaker, cache, MemoryReset()).states
        whole = starts_of(speaker, 2)
    assert not same(weights(speaker, cache.states), weights(speaker, fresh))
    assert same(weights(speaker, states), weights(speaker, fresh))
    for now, before, start, settled in zip(states, cache.states, fresh, whole, strict=True):
        assert now.sights == before.sights
        for name, memory in now.memories.items():
            assert torch.equal(memory.clock, before.memories[name].clock)
            assert same(list(memory.moments), list(settled.memories[name].moments))
            assert torch.equal(memory.buffers["tail"], before.memories[name].buffers["tail"])
        for name, tensor in now.tensors.items():
            assert torch.equal(tensor, (start if name.startswith(KEPT) else before).tensors[name])


@every_kind
def test_a_cut_window_shows_nothing_and_memories_are_kept(kind: str) -> None:
    speaker, x = small(kind), tokens(2, 7)
    cache = after(speaker, x)
    with torch.no_grad():
        fresh, states = starts(speaker, 2), cut(speaker, cache, WindowCut()).states
    assert same(weights(speaker, states), weights(speaker, cache.states))
    changed = 0
    for now, before, start in zip(states, cache.states, fresh, strict=True):
        pairs = [(a, b, c) for sight in zip(now.sights, before.sights, start.sights, strict=True) for a, b, c in zip(*sight, strict=True)]
        pairs += [(m.buffers["tail"], before.memories[n].buffers["tail"], start.memories[n].buffers["tail"]) for n, m in now.memories.items()]
        pairs += [(t, before.tensors[n], start.tensors[n]) for n, t in now.tensors.items() if not n.startswith(KEPT)]
        assert all(torch.equal(a, c) for a, _, c in pairs)
        changed += sum(not torch.equal(a, b) for a, b, _ in pairs)
        assert all(torch.equal(t, before.tensors[n]) for n, t in now.tensors.items() if n.startswith(KEPT))
    assert changed


@every_kind
def test_behind_a_cut_window_only_memories_tell_contexts_apart(kind: str) -> None:
    speaker, question = small(kind), tokens(1, 3, seed=9)
    one, other = after(speaker, tokens(1, 7)), after(speaker, tokens(1, 7, seed=1))
    mixed = RetainCache(tuple(with_memories_of(a, b) for a, b in zip(other.states, one.states, strict=True)), other.seen)
    assert (answers(speaker, one, question) - answers(speaker, mixed, question)).abs().max() > 1e-6, "what is in sight tells them apart"
    assert torch.equal(answers(speaker, cut(speaker, one, WindowCut()), question), answers(speaker, cut(speaker, mixed, WindowCut()), question))
    if has_memory(kind):
        left = [answers(speaker, cut(speaker, cache, WindowCut()), question) for cache in (one, other)]
        assert (left[0] - left[1]).abs().max() > 1e-6, "what memories hold still tells them apart"


def with_memories_of(state: BlockState, other: BlockState) -> BlockState:
    """``state`` with the memories and levels of ``other``, but for what their layers have seen of single tokens."""
    memories = {
        name: replace(memory, buffers={**memory.buffers, "tail": state.memories[name].buffers["tail"]}) for name, memory in other.memories.items()
    }
    past = {name: tensor for name, tensor in other.tensors.items() if name.startswith(KEPT)}
    return replace(state, memories=memories, tensors={**state.tensors, **past})


@every_kind
def test_with_both_taken_away_nothing_is_left(kind: str) -> None:
    speaker, question = small(kind), tokens(2, 5, seed=9)
    cache = after(speaker, tokens(2, 8))  # whole segments, so that clocks tell nothing either
    left = answers(speaker, cut(speaker, cache, MemoryReset(), WindowCut()), question)
    with torch.no_grad():
        assert_near(left, speaker(question).logits)
    assert (answers(speaker, cache, question) - left).abs().max() > 1e-6


@every_kind
@pytest.mark.parametrize("control", [MemoryReset(), WindowCut()], ids=lambda control: control.name)
def test_behind_a_cut_streams_go_on_in_any_split(kind: str, control: AbstractCut) -> None:
    speaker, x = small(kind), tokens(2, 7, seed=3)
    cache = cut(speaker, after(speaker, tokens(2, 7)), control)
    whole, found, on = answers(speaker, cache, x), [], cache.fork()
    with torch.no_grad():
        for part in x.split((1, 4, 2), dim=1):
            found.append(speaker(part, past_key_values=on).logits)
    assert_near(torch.cat(found, dim=1), whole)


@pytest.mark.parametrize("kind", ["lmm", "mac"])
@pytest.mark.parametrize(
    ("rule", "context"),
    [({"update_every": 4}, 7), ({"update_every": 4}, 6), ({"update_every": 4, "step_every": 2}, 7), ({"update_every": None}, 7)],
    ids=str,
)
def test_behind_a_reset_all_engines_agree(kind: str, rule: dict[str, Any], context: int) -> None:
    said = []
    for engine in ("auto", "recurrent"):
        memory = {"rule": {"expansion": 1.5, **rule}, "heads": 2, "gates": {"lr": 0.3}, "engine": engine}
        speaker = small(kind, memory=memory)
        cache = cut(speaker, after(speaker, tokens(2, context)), MemoryReset())
        said.append(answers(speaker, cache, tokens(2, 7, seed=3)))
    assert_near(said[0], said[1])


def test_a_key_that_waits_for_its_value_belongs_to_the_memory() -> None:
    memory = {"rule": {"update_every": 4, "step_every": 2}, "projections": {"values": "next"}, "gates": {"pool": "mean"}}
    speaker = small("lmm", memory=memory)
    cache = after(speaker, tokens(1, 5))
    held, fresh = (next(iter(states)).memories["memory"].buffers for states in (cache.states, starts_of(speaker, 1)))
    found = {c.name: next(iter(cut(speaker, cache, c).states)).memories["memory"].buffers for c in (MemoryReset(), WindowCut())}
    assert set(held) == {"ahead", "gates", "tail"}
    assert not torch.equal(held["ahead"], fresh["ahead"])
    for control, waiting, tail in (("memory reset", fresh, held), ("window cut", held, fresh)):
        assert torch.equal(found[control]["ahead"], waiting["ahead"])
        assert torch.equal(found[control]["tail"], tail["tail"])
        assert torch.equal(found[control]["gates"], held["gates"])


@pytest.mark.parametrize("kind", ["mac", "mixed"])
def test_rows_are_cut_one_by_one(kind: str) -> None:
    speaker, question = small(kind), tokens(2, 5, seed=9)
    cache = after(speaker, tokens(2, 7))
    for control in (MemoryReset(), WindowCut()):
        stream = Stream(speaker, cache=cache.fork())
        stream.cut(control, torch.tensor([False, True]))
        found = answers(speaker, stream.cache, question)
        assert_near(found[0], answers(speaker, cache, question)[0])
        assert_near(found[1], answers(speaker, cut(speaker, cache, control), question)[1])


def test_starts_hold_the_persistent_tokens_folded_in() -> None:
    speaker = small("mixed", persistent_tokens=3)
    with torch.no_grad():
        settled = starts_of(speaker, 2)
        assert same(weights(speaker, settled), weights(speaker, starts(speaker, 2)))
        empty = weights(speaker, starts_of(small("mixed", persistent_tokens=0), 2))
    assert settled[0].memories["memory"].pending is None
    assert not same(weights(speaker, settled), empty), "the memory has read its persistent tokens"
