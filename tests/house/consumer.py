# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What users write, for the type checker alone: it is never run. Each ``assert_type`` is what an editor tells them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import assert_type

from retain import (
    ContinuumMemory,
    Gates,
    Level,
    MemoryRule,
    MemoryState,
    NeuralMemory,
    SelfModifyingMemory,
    bias,
    learner,
    load_state,
    presets,
    retention,
    save_state,
    structure,
)
from retain.engines import select
from retain.retrofit import MemoryCache, MemoryConfig
from retain.text import HashingEmbedder, InferResult, TextMemory


def a_layer(x: Tensor, path: Path) -> Tensor:
    rule = MemoryRule(structure=structure.MLP(), bias=bias.L2(), retention=retention.Decay(), learner=learner.Momentum(order=2))
    memory = NeuralMemory(64, heads=4, rule=rule, gates=Gates(curve="hard"), engine="dual")
    y, state = memory(x)
    assert_type(y, Tensor)
    assert_type(state, MemoryState)
    y, state, surprise = memory(x, state, return_surprise=True)
    assert_type(surprise, Any)
    save_state(state.detach(), path, memory.rule)
    assert_type(load_state(path, memory.rule), MemoryState)
    assert_type(state[torch.tensor([0])], MemoryState)
    assert_type(presets.titans(depth=2), MemoryRule)
    assert_type(select(presets.titans()).name, str)
    return y


def other_layers(x: Tensor) -> None:
    assert_type(ContinuumMemory(64, 128, levels=[Level(every=16)])(x), Tensor)
    y, state = SelfModifyingMemory(64)(x)
    assert_type(y, Tensor)
    assert_type(state, MemoryState)


def a_memory_of_texts(folder: Path) -> list[str]:
    with TextMemory.open(folder, embedder=HashingEmbedder()) as memory:
        assert_type(memory.observe("Anna is allergic to nuts")["surprise"], float)
        found = memory.infer("what must Anna not eat?")
        assert_type(found, InferResult)
        return found["patterns"]


def a_retrofit(cache: MemoryCache) -> MemoryConfig:
    assert_type(cache.fork(), MemoryCache)
    return MemoryConfig(layers=(-2, -1), memory={"heads": 2}, strength=0.5)


def a_part_in_anothers_place() -> MemoryRule:
    """An error for the checker, which would tell if the comment were not needed."""
    held = retention.Decay()
    return MemoryRule(structure=structure.MLP(), bias=held, retention=held, learner=learner.Momentum())  # pyright: ignore[reportArgumentType]
