"""Memories that are used as they come: nothing diverges, repetition surprises less, and what is not rewritten stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import MemoryRule, MemoryState, NeuralMemory, bias, presets, structure
from retain.core.contracts import AbstractStructure
from retain.core.reader import Plain
from retain.engines.select import ENGINES
from tests.cases import ACTIVATIONS, CASES, CHOSEN, JUDGE, PRESETS, Case, named, willing
from tests.streams import gradients, run, world

AS_THEY_COME: tuple[AbstractStructure, ...] = (
    structure.Matrix(),
    *(structure.MLP(depth=depth, activation=name) for depth in (1, 2, 3, 4) for name in (ACTIVATIONS if depth > 1 else ACTIVATIONS[:1])),
    *(structure.GatedMLP(activation=name) for name in ACTIVATIONS),
)
AS_THEY_COME = (*AS_THEY_COME, *(structure.NormResidual(inner=inner) for inner in AS_THEY_COME))


def _memory(dim: int, rule: MemoryRule | None = None, **settings: object) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(dim, rule=rule, **settings)  # pyright: ignore[reportArgumentType]


def _finite(state: MemoryState) -> bool:
    return all(bool(torch.isfinite(t).all()) for _, t in state.tensors())


def _loss_per_token(memory: NeuralMemory, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
    with torch.no_grad():
        _, state, surprise = memory(x, state, return_surprise=True)
    return surprise.mean(-1), state


@pytest.mark.parametrize("net", AS_THEY_COME, ids=named)
def test_the_rate_bound_keeps_one_repeated_token_stable(net: AbstractStructure) -> None:
    """At the rate that a structure names as its bound, steps on one key of length one do not run away, in any of 64 memories."""
    source = torch.Generator().manual_seed(3)
    weights = {name: w.double() for name, w in net.init(64, 8, 8, source).items()}
    k = F.normalize(torch.randn(64, 1, 8, generator=source, dtype=torch.float64), dim=-1)
    v = torch.randn(64, 1, 8, generator=source, dtype=torch.float64)
    first = last = bias.L2().loss(net.read(Plain(weights), k), v)
    for _ in range(100):
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        last = bias.L2().loss(net.read(Plain(leaves), k), v)
        steps = torch.autograd.grad(last.sum(), list(leaves.values()))
        weights = {name: (w - net.rate_bound(8) * g).detach() for (name, w), g in zip(leaves.items(), steps, strict=True)}
    grown = ~(last.detach() <= 10 * first)
    assert not bool(grown.any()), f"the error of {int(grown.sum())} of 64 memories grew tenfold or more"


@pytest.mark.parametrize("dim", [8, 32, 128])
@pytest.mark.parametrize("net", AS_THEY_COME, ids=named)
def test_the_same_token_over_and_over_never_diverges(net: AbstractStructure, dim: int) -> None:
    memory = _memory(dim, replace(presets.titans(), structure=net))
    x = torch.randn(2, 1, dim, generator=torch.Generator().manual_seed(1)).expand(2, 64 * 8, dim)
    surprise, state = _loss_per_token(memory, x)
    assert _finite(state)
    assert bool((surprise[:, -64:].mean(1) <= surprise[:, 64:128].mean(1).clamp(min=1e-3) * 1.01).all()), surprise[:, ::64]
    assert bool((surprise[:, -1] < surprise[:, 0] + 1e-6).all())


@pytest.mark.parametrize("dim", [8, 32, 128])
def test_a_repeated_sequence_surprises_less_each_time(dim: int) -> None:
    memory, x = _memory(dim, heads=2), torch.randn(2, 64, dim, generator=torch.Generator().manual_seed(1))
    means, state = [], None
    for _ in range(6):
        surprise, state = _loss_per_token(memory, x, state)
        means.append(float(surprise.mean()))
    assert all(later < earlier for earlier, later in pairwise(means)), means


@pytest.mark.parametrize(("name", "rule"), PRESETS.items(), ids=str)
def test_every_preset_learns_a_repeated_sequence(name: str, rule: MemoryRule) -> None:
    memory, x = _memory(16, rule), torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(1))
    first, state = _loss_per_token(memory, x)
    second = first
    for _ in range(5):
        second, state = _loss_per_token(memory, x, state)
    assert _finite(state)
    assert float(second.mean()) < float(first.mean())


@pytest.mark.parametrize("dim", [8, 64])
def test_an_untrained_memory_keeps_most_of_what_it_began_with(dim: int) -> None:
    """500 tokens of which none is learnt: the forgetting gate alone leaves at least 70 in 100 of the initial weights."""
    memory = _memory(dim)
    with torch.no_grad():
        memory.gates.bias[:1] = -1e4
        _, state = memory(torch.randn(2, 500, dim, generator=torch.Generator().manual_seed(1)))
    start = memory.start(2).detach()
    for weight, norm in start.norms().items():
        if bool(norm.any()):
            assert bool((state.norms()[weight] >= 0.7 * norm).all()), f"{weight}: {(state.norms()[weight] / norm).tolist()}"
            assert bool((state.norms()[weight] < norm).all())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_hundred_thousand_random_tokens_leave_a_bounded_memory(precision: str) -> None:
    memory, source = _memory(8), torch.Generator().manual_seed(1)
    state, largest = None, 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for _ in range(25):
            y, state = memory(torch.randn(1, 4096, 8, generator=source), state)
            assert bool(torch.isfinite(y).all())
            assert _finite(state)
            assert {w.dtype for w in state.accumulator.values()} == {torch.float32}
            largest = max(largest, *(float(norm.max()) for norm in state.norms().values()))
    assert largest < 20 * max(float(norm.max()) for norm in memory.start(1).detach().norms().values())


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gates_at_their_ends_break_nothing(case: Case, value: float) -> None:
    for engine in ENGINES:
        if engine.why_not(case.rule) is not None:
            continue
        for field in ("lr", "momentum", "retain"):
            here = world(case.rule, 1, batch=2, time=9)
            gate = getattr(here.tokens, field)
            if gate is not None:
                end = torch.full_like(gate, value * (0.1 if field == "lr" else 1.0))
                here = replace(here, tokens=replace(here.tokens, **{field: end})).leaves()
                outcome = run(here, [engine])
                for path, found in {**outcome.tensors(), **gradients(here, outcome)}.items():
                    assert bool(torch.isfinite(found.double()).all()), f"{engine}, {field}={value}: {path}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zero_tokens_zero_residuals_and_masked_rows_leave_no_nan(case: Case) -> None:
    """Keys, queries and values of zero; a value that the memory answers already; a row in which nothing is written."""
    for engine in (*willing(case.rule)[:1], JUDGE):
        here = world(case.rule, 1, batch=3, time=6)
        tokens = here.tokens
        assert tokens.q is not None
        k, v, q = (t * torch.tensor([0.0, 1.0, 1.0], dtype=t.dtype).reshape(-1, *(1,) * (t.ndim - 1)) for t in (tokens.k, tokens.v, tokens.q))
        answer = case.rule.structure.read(Plain(case.rule.retention.expose(here.start.anchor)), k[:, :1, :, 0].transpose(1, 2)).transpose(1, 2)
        v = torch.cat([answer.unsqueeze(3).expand_as(v[:, :1]), v[:, 1:]], dim=1)
        write = torch.tensor([True, True, False])[:, None].expand(3, 6)
        here = replace(here, tokens=replace(tokens, k=k, v=v, q=q, write=write)).leaves()
        outcome = run(here, [engine], [[4, 4, 4], [2, 2, 2]])
        for path, found in {**outcome.tensors(), **gradients(here, outcome)}.items():
            assert bool(torch.isfinite(found.double()).all()), f"{engine}: {path}"


@pytest.mark.parametrize("preset", [presets.titans, presets.gated_delta_net, presets.oja, presets.ttt_mlp])
def test_silence_and_shouting_break_nothing(preset: Callable[[], MemoryRule]) -> None:
    memory = _memory(16, preset(), heads=2)
    for size in (0.0, 1e-20, 1e3):
        x = (size * torch.randn(2, 150, 16, generator=torch.Generator().manual_seed(1))).requires_grad_()
        y, state = memory(x)
        (slope,) = torch.autograd.grad(y.sum() / (1 + size), x)
        assert bool(torch.isfinite(y).all())
        assert bool(torch.isfinite(slope).all())
        assert _finite(state)
