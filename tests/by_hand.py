"""Formulas of the papers, written out in rows: the letters of a stream, and the engines that must agree with what was made of them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from retain import MemoryRule
from retain.core.engine import AbstractEngine
from tests.cases import JUDGE, willing
from tests.streams import World, run, world
from tests.tolerances import assert_near

TIME, KEY, VALUE = 11, 4, 3

Weights = dict[str, Tensor]  # each [batch, heads, ...]


def stream_of(rule: MemoryRule, seed: int = 0, value: int = VALUE) -> World:
    return world(rule, seed, batch=2, time=TIME, heads=2, key=KEY, value=value)


def engines_of(rule: MemoryRule) -> list[AbstractEngine]:
    return [*willing(rule), JUDGE]


def letters(here: World) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values [batch, time, heads, width], rates [batch, time, heads, 1, 1], and the initial matrix in every row."""
    t = here.tokens
    assert t.q is not None
    matrix = here.initial["w0" if "w0" in here.initial else "w"]
    return t.q, t.k[:, :, :, 0], t.v[:, :, :, 0], t.lr[..., None], matrix.expand(t.batch, *matrix.shape)


def kept_of(here: World) -> Tensor:
    """The shares that are kept, 1 - alpha in Titans and alpha in MIRAS [batch, time, heads, 1, 1]."""
    assert here.tokens.retain is not None
    return here.tokens.retain[..., None, None]


def momentum_of(here: World) -> Tensor:
    """Titans' eta [batch, time, heads, 1, 1]."""
    assert here.tokens.momentum is not None
    return here.tokens.momentum[..., None]


def initial_of(here: World) -> Weights:
    """The initial weights in every row."""
    return {name: w.expand(here.tokens.batch, *w.shape) for name, w in here.initial.items()}


def outer(k: Tensor, v: Tensor) -> Tensor:
    return k[..., :, None] * v[..., None, :]


def read(q: Tensor, memory: Tensor) -> Tensor:
    return torch.einsum("bhk,bhkv->bhv", q, memory)


def deep(x: Tensor, weights: Weights) -> Tensor:
    """x + (1 + g) LN(gelu(x W_0) W_1), token by token."""
    y = read(F.gelu(read(x, weights["w0"])), weights["w1"])
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return x + (1 + weights["gain"]) * y


def between(gate: Tensor, i: int, t: int) -> Tensor:
    """beta_t / beta_i, the product of a gate over the tokens behind i up to t, without a division."""
    return gate[:, i + 1 : t + 1].prod(1)


def like(gate: Tensor, weight: Tensor) -> Tensor:
    """A gate [batch, heads, 1, 1] that multiplies a matrix or a vector of a memory."""
    return gate if weight.ndim == 4 else gate[..., 0]


def agree(here: World, rule: MemoryRule, outputs: list[Tensor], memory: Tensor, weight: str = "w") -> None:
    """Every engine that runs the rule gives these outputs and leaves this weight behind."""
    agree_in_all(here, rule, outputs, {weight: memory})


def agree_in_all(here: World, rule: MemoryRule, outputs: list[Tensor], memory: Weights) -> None:
    for engine in engines_of(rule):
        outcome = run(replace(here, rule=rule), [engine])
        assert_near(outcome.y, torch.stack(outputs, dim=1), what=f"outputs of {engine}")
        for name, value in memory.items():
            assert_near(outcome.state.accumulator[name], value, what=f"{name} of {engine}")
