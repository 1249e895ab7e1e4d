"""What a layer is made of, in which precision it works, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from retain import TTTMLP, Gates, NeuralMemory, Output, Projections, TTTLinear, presets
from retain.core.errors import EngineRefusal, StateMismatch
from retain.core.rule import MemoryRule
from retain.engines import Dual
from tests.samples import DIM, LAYERS, layer, stream
from tests.tolerances import assert_near

# ---- parts of the layer


def test_recall_binds_a_token_to_the_one_before_it() -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(DIM, heads=2, projections=Projections(start="recall")).double(), stream()
    q, k, _, _ = memory.projections((x, x, x), None, torch.tensor([11, 11]))
    assert_near(k[:, 1:, :, 0], q[:, :-1])
    assert not torch.allclose(k[:, :-1, :, 0], q[:, :-1])


def test_keys_and_queries_are_normalised_as_asked() -> None:
    torch.manual_seed(0)
    for norm, size in (("l2", 1.0), ("rms", 3**0.5)):
        memory = NeuralMemory(DIM, heads=2, projections=Projections(norm=norm, pairs=2)).double()  # pyright: ignore[reportArgumentType]
        x = stream()
        q, k, v, _ = memory.projections((x, x, x), None, torch.tensor([11, 11]))
        assert k.shape == (2, 11, 2, 2, 3) == v.shape
        torch.testing.assert_close(q.norm(dim=-1), torch.full((2, 11, 2), size, dtype=torch.float64), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(k.norm(dim=-1), torch.full((2, 11, 2, 2), size, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_pooled_gates_are_the_mean_over_a_step() -> None:
    memory, x = layer("pooled"), stream(time=12)
    gates, sums = memory.gates(x, None, torch.tensor([0, 0]), torch.tensor([12, 12]))
    plain = torch.nn.functional.linear(x, memory.gates.weight, memory.gates.bias).unflatten(1, (4, 3)).mean(2)
    momentum = plain[..., 2:4].sigmoid()
    assert gates["momentum"] is not None
    assert_near(gates["momentum"][:, 2::3, :, 0], momentum)
    assert sums is not None
    assert not sums.any()


def test_gates_start_where_they_are_told() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, heads=2, gates=Gates(lr=0.1, momentum=0.8, forget=0.02, forget_max=0.1, rate=0.5))
    gates, _ = memory.gates(torch.zeros(1, 1, DIM), None, torch.tensor([0]), torch.tensor([1]))
    assert gates["lr"] is not None
    assert gates["momentum"] is not None
    assert gates["retain"] is not None
    torch.testing.assert_close(gates["lr"], torch.full((1, 1, 2, 1), 0.5 * 0.1 * 0.2))
    torch.testing.assert_close(gates["momentum"], torch.full((1, 1, 2, 1), 0.8))
    torch.testing.assert_close(gates["retain"], torch.full((1, 1, 2), 0.98))


@pytest.mark.parametrize("rate", [None, 0.5])
def test_a_memory_that_is_asked_by_values_learns_slower_the_longer_they_are_unless_told_its_rate(rate: float | None) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, rule=presets.oja(), projections=Projections(conv=1, activation=None), gates=Gates(rate=rate, lr=0.9)).double()
    with torch.no_grad():
        memory.gates.weight.zero_()
        memory.initial["w"].normal_()
    x = stream(1, 1) * torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)[:, None, None]
    _, k, v, _ = memory.projections((x, x, x), None, torch.tensor([1, 1, 1]))
    k, v, start = k[:, 0, 0, 0], v[:, 0, 0, 0], memory.initial["w"][0]
    most = 1 / v.square().sum(-1).clamp(min=1) if rate is None else torch.full((3,), rate, dtype=torch.float64)
    assert float(v.square().sum(-1).max().detach()) > 100
    lr, forget = torch.sigmoid(memory.gates.bias)
    expected = (1 - forget) * start + (most * lr)[:, None, None] * (k - v @ start.T)[:, :, None] * v[:, None, :]
    assert_near(memory(x)[1].accumulator["w"][:, 0], expected)


def test_hard_gates_reach_their_ends_exactly() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, gates=Gates(curve="hard", forget_max=1.0))
    for sign, ends in ((-1.0, (0.0, 0.0, 1.0)), (1.0, (0.0, 1.0, 0.0))):
        with torch.no_grad():
            memory.gates.weight.zero_()
            memory.gates.bias.fill_(sign * 100)
        gates, _ = memory.gates(torch.randn(1, 4, DIM), None, torch.tensor([0]), torch.tensor([4]))
        for name, end in zip(("lr", "momentum", "retain"), ends, strict=True):
            gate = gates[name]
            assert gate is not None
            assert bool((gate == end).all()), name


@pytest.mark.parametrize("curve", ["sigmoid", "hard"])
def test_the_cost_of_writing_lies_between_nothing_and_two_and_can_be_lowered(curve: str) -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(DIM, gates=Gates(curve=curve)), torch.randn(2, 9, DIM)  # pyright: ignore[reportArgumentType]
    for sign, cost in ((-100.0, 0.0), (100.0, 2.0)):
        with torch.no_grad():
            memory.gates.bias.fill_(sign)
        assert float(memory.write_cost(x).detach()) == pytest.approx(cost, abs=1e-6)
    if curve == "hard":  # wide open, they are told so all the same
        (slope,) = torch.autograd.grad(memory.write_cost(x), memory.gates.bias)
        assert slope[[0, 2]].tolist() == pytest.approx([1 / 6, 1 / 6])
    with torch.no_grad():
        memory.gates.bias.zero_()
    (slope,) = torch.autograd.grad(memory.write_cost(x), memory.gates.bias)
    assert slope[[0, 2]].gt(0).all()
    assert slope[1] == 0


@pytest.mark.parametrize("rule", [presets.titans(), presets.delta_net(), presets.gated_delta_net(), presets.rwkv7(), presets.gla()])
def test_autocast_leaves_the_state_in_full_precision(rule: MemoryRule) -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(16, heads=2, rule=rule), torch.randn(2, 150, 16)
    exact, _ = memory(x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, state = memory(x[:, :100])
        more, state = memory(x[:, 100:], state)
    assert {t.dtype for part in (state.anchor, state.accumulator, *state.moments) for t in part.values()} == {torch.float32}
    assert float((torch.cat([y, more], dim=1) - exact.detach()).norm() / exact.detach().norm()) < 0.1


def test_a_layer_in_bfloat16_keeps_its_memory_in_float32() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(16, heads=2).bfloat16()
    y, state = memory(torch.randn(2, 70, 16, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert {w.dtype for w in state.accumulator.values()} == {torch.float32}


def test_an_engine_never_changes_the_answer() -> None:
    x = stream()
    expected = layer("titans", engine="recurrent")(x)[0]
    for engine in ("auto", "dual", "materialised", Dual(tile=2, recompute=1)):
        assert_near(layer("titans", engine=engine)(x)[0], expected)


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_call_is_answered(name: str) -> None:
    memory = layer(name)
    y, state = memory(stream(time=0))
    assert y.tolist() == [[], []]
    assert state.clock.tolist() == [0, 0]
    assert memory(stream(time=0), memory(stream())[1])[1].clock.tolist() == [11, 11]


def test_a_batch_of_no_rows_is_answered() -> None:
    y, state = layer()(stream(batch=0))
    assert y.tolist() == []
    assert state.batch == 0


@pytest.mark.parametrize("make", [TTTLinear, TTTMLP])
def test_the_layers_of_the_ttt_paper_run_its_rules(make: object) -> None:
    assert callable(make)
    memory = make(8, heads=2, update_every=4)
    assert memory.rule == (presets.ttt_linear if make is TTTLinear else presets.ttt_mlp)(update_every=4)
    assert memory(torch.randn(1, 9, 8))[1].clock.tolist() == [9]


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"heads": 4}, r"heads must be positive and divide dim unless head_dim is given, got heads=4 and dim=6"),
        ({"heads": 0}, r"heads must be positive"),
        ({"output": Output(project=False), "head_dim": 4}, r"needs heads \* head_dim = dim, got 2 \* 4 and 6"),
        ({"engine": "fast"}, r"no engine 'fast'; choose 'auto' or one of .*'dual'"),
        ({"rule": presets.gated_delta_net(), "engine": "dual"}, r"dual takes all gradients .* Engines that run this rule: 'delta', .*'recurrent'"),
        ({"rule": presets.titans(), "engine": "delta"}, r"delta needs .* Engines that run this rule: 'dual', "),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_its_cure(settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        NeuralMemory(DIM, **{"heads": 2, **settings})  # pyright: ignore[reportArgumentType]


def test_a_refusal_of_an_engine_can_be_caught_by_name() -> None:
    with pytest.raises(EngineRefusal):
        NeuralMemory(DIM, rule=presets.titans(), engine="delta")


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: Projections(pairs=0), "pairs must be at least 1"),
        (lambda: Projections(start="recall", conv=1), "needs conv >= 2 and pairs = 1, got conv=1 and pairs=1"),
        (lambda: Gates(momentum=1.0), "Gates.momentum starts at 1.0"),
        (lambda: Gates(lr=0.0), "Gates.lr starts at 0.0"),
        (lambda: Gates(forget=0.1, forget_max=0.01), "Gates.forget starts at 0.1"),
    ],
)
def test_parts_that_cannot_be_are_refused(make: object, cure: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=cure):
        make()


def test_a_call_that_does_not_fit_is_refused_with_its_cure() -> None:
    memory, x = layer(), stream()
    with pytest.raises(ValueError, match=r"reads a stream of width 6, got x of shape \[2, 11, 5\]"):
        memory(x[..., :5])
    with pytest.raises(StateMismatch, match=r"the state has 3 rows and the input 2\. Choose rows with state\[\.\.\.\], or start a state"):
        memory(x, memory.start(3))
    with pytest.raises(StateMismatch, match="not one of this layer's"):
        memory(x, layer("gated_delta_net").start(2))
    with pytest.raises(StateMismatch, match="0 moments, this layer's has"):
        memory(x, NeuralMemory(DIM, heads=2, rule=presets.ttt_mlp()).start(2))
    for bounds in ([0, 4, 3, 11], [1, 11], [0, 10], [0]):
        with pytest.raises(ValueError, match="bounds that rise from 0 to time=11; got 1 rows, no mask and bounds"):
            memory(x[:1], cu_seqlens=torch.tensor(bounds))
    with pytest.raises(ValueError, match="cu_seqlens needs one row of tokens"):
        memory(x, cu_seqlens=torch.tensor([0, 11]))


def test_shapes_are_refused_in_words_where_no_checker_runs() -> None:
    """In these tests the checker of shapes speaks first; users do not have it."""
    program = """
import torch
from dataclasses import replace
from retain import NeuralMemory
from retain.core.tokens import Tokens
tokens = Tokens(k=torch.zeros(2, 3, 1, 1, 4), v=torch.zeros(2, 3, 1, 1, 4), lr=torch.zeros(2, 3, 1, 1))
for call in (
    lambda: NeuralMemory(6)(torch.zeros(2, 4, 6), mask=torch.ones(2, 4)),
    lambda: NeuralMemory(6)(torch.zeros(2, 4, 6), mask=torch.ones(2, 5, dtype=torch.bool)),
    lambda: replace(tokens, retain=torch.zeros(2, 2, 1)),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "mask must be a bool tensor of shape [batch, time] = [2, 4], got torch.float32 [2, 4].",
        "mask must be a bool tensor of shape [batch, time] = [2, 4], got torch.bool [2, 5].",
        "Tokens.retain must begin with [batch, time] = [2, 3] like k, got shape [2, 2, 1]. "
        "All tokens of a call come in one rectangle; shorter rows are given by `lengths`.",
    ]
