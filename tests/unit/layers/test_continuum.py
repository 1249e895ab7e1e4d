"""Continuum memories as layers: their parts, rows and pieces of streams, every optimizer, and what they refuse."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import retain.optim as optim
from retain.blocks import BlockState
from retain.core.errors import StateMismatch
from retain.layers import ContinuumMemory, Level
from retain.optim import AbstractOptimizer
from tests.continuum_streams import levels_of, memory_of, regression, squared, stream_learning
from tests.tolerances import GRADIENTS, ROWS, assert_near

FORMS = pytest.mark.parametrize("form", ["sequential", "nested", "independent"])
KNOWN = {name: part for name, part in vars(optim).items() if inspect.isclass(part) and issubclass(part, AbstractOptimizer)}
OPTIMIZERS = [name for name, part in KNOWN.items() if not inspect.isabstract(part) and "params" in inspect.signature(part).parameters]


def _lesson(memory: ContinuumMemory, state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Random gradients."""
    source = torch.Generator().manual_seed(seed)
    return {path: torch.randn(w.shape, generator=source, dtype=w.dtype) for path, w in memory.weights(state).items()}


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for path, part in a.items():
        assert_near(part, b[path], ROWS, what=path)


# ---- parts


def test_a_level_that_never_changes_keeps_nothing_and_is_a_gated_perceptron() -> None:
    torch.manual_seed(0)
    memory, x = ContinuumMemory(6, 8, levels=(Level(every=0),)), torch.randn(2, 9, 6)
    state, half = memory.start(2), dict(memory.blocks[0].named_parameters())
    assert list(state) == ["tokens"]
    seen = F.rms_norm(x, (6,), half["norm.weight"], eps=1e-6)
    gate = seen @ half["gate.weight"].T
    expected = x + (gate * torch.sigmoid(gate) * (seen @ half["up.weight"].T)) @ half["down.weight"].T
    assert_near(memory(x, state), expected)


def test_a_level_is_plain_data() -> None:
    level = Level(every=16, optimizer="Momentum", options={"lr": 0.1, "alpha": 0.5}, learnt_rate=True, around="nothing")
    assert Level(**json.loads(json.dumps(asdict(level)))) == level


def test_a_state_is_what_a_block_can_keep() -> None:
    memory, (x, target) = memory_of(*levels_of(2, 4)), regression(rows=3)
    _, state = stream_learning(memory, x, squared(target), last=5)
    held = BlockState(tensors=state)
    back = BlockState.of(dict(held.named_tensors()))[[2, 2, 0]]
    _, on = stream_learning(memory, x[[2, 2, 0]], squared(target[[2, 2, 0]]), back.tensors, first=5)
    _, whole = stream_learning(memory, x[[2, 2, 0]], squared(target[[2, 2, 0]]))
    _same(on, whole)
    chosen = BlockState.where(torch.tensor([True, False, True]), held, BlockState(tensors=memory.start(3)))
    assert chosen.tensors["tokens"].tolist() == [5, 0, 5]


def test_a_memory_in_bfloat16_learns_in_float32() -> None:
    torch.manual_seed(0)
    memory = ContinuumMemory(6, 8, levels=levels_of(2, 0, lr=1e-3)).bfloat16()
    x, state = torch.randn(2, 2, 6, dtype=torch.bfloat16), memory.start(2)
    y = memory(x, state)
    assert y.dtype == torch.bfloat16
    weights = memory.weights(state)
    after = memory.learn(state, dict(zip(weights, torch.autograd.grad(y.float().sum(), list(weights.values())), strict=True)), torch.tensor([2, 2]))
    assert {part.dtype for path, part in after.items() if path != "tokens"} == {torch.float32}
    assert bool((after["0/weights/down"] - state["0/weights/down"]).abs().max() > 0)


def test_a_learnt_rate_starts_where_it_is_told_and_is_learnt() -> None:
    """The slope of an outer loss in the logarithm of the rate, against two streams with rates beside it."""
    x, target = regression()

    def outer(lr: float, learnt: bool) -> tuple[Tensor, ContinuumMemory]:
        memory = memory_of(Level(every=3, options={"lr": lr}, learnt_rate=learnt))
        return squared(target)(stream_learning(memory, x, squared(target))[0], slice(0, 21)), memory

    loss, memory = outer(0.02, learnt=True)
    assert_near(loss, outer(0.02, learnt=False)[0], {torch.float64: 1e-7})
    (slope,) = torch.autograd.grad(loss, memory.get_parameter("blocks.0.log_rate"))
    rate, h = memory.get_parameter("blocks.0.log_rate").exp().item(), 1e-5
    up, down = (outer(rate * (1 + h * side), learnt=False)[0] for side in (1, -1))
    assert_near(slope, (up - down) / (2 * h), {torch.float64: 1e-6})


# ---- rows and pieces


@FORMS
def test_any_pieces_of_a_stream_are_the_stream(form: str) -> None:
    memory, (x, target) = memory_of(*levels_of(2, 6), form=form), regression()
    whole, end = stream_learning(memory, x, squared(target))
    outer = torch.autograd.grad(whole.square().sum(), list(memory.parameters()), retain_graph=True)
    for cuts in ([1, 2, 3, 21], [5, 5, 13, 21], [20, 21], [*range(1, 22)]):
        state, pieces, first = memory.start(2), [], 0
        for last in cuts:
            y, state = stream_learning(memory, x, squared(target), state, first, last)
            pieces.append(y)
            first = last
        assert_near(torch.cat(pieces, 1), whole)
        _same(state, end)
        again = torch.autograd.grad(torch.cat(pieces, 1).square().sum(), list(memory.parameters()))
        for gradient, right in zip(again, outer, strict=True):
            assert_near(gradient, right, GRADIENTS)


@FORMS
def test_rows_never_touch_each_other(form: str) -> None:
    memory, (x, target) = memory_of(*levels_of(2, 6), form=form), regression(rows=3)
    y, state = stream_learning(memory, x, squared(target))
    for row in range(3):
        alone, end = stream_learning(memory, x[row : row + 1], squared(target[row : row + 1]))
        assert_near(y[row : row + 1], alone, ROWS)
        _same({path: part[row : row + 1] for path, part in state.items()}, end)
    x[0] += 1
    assert torch.equal(stream_learning(memory, x, squared(target))[0][1:], y[1:])


@FORMS
def test_rows_at_different_places_step_each_at_its_own_time(form: str) -> None:
    """Rows that have read 1, 4 and 6 tokens learn together what each learns alone, and what is not due stays to the last bit."""
    memory = memory_of(*(Level(every=every, optimizer="Momentum", options={"lr": 0.1}) for every in (2, 6)), form=form)
    states, places = [], (1, 4, 6)
    for row, place in enumerate(places):
        x, target = regression(rows=1, seed=row)
        states.append({path: part.detach() for path, part in stream_learning(memory, x, squared(target), last=place)[1].items()})
    state = {path: torch.cat([own[path] for own in states]) for path in states[0]}
    for tokens in ([1, 1, 2], [1, 1, 0], [1, 2, 1], [0, 0, 0], [2, 0, 0]):
        lesson = _lesson(memory, state, seed=sum(tokens))
        after = memory.learn(state, lesson, torch.tensor(tokens))
        for row, count in enumerate(tokens):
            own = memory.learn(
                {path: part[row : row + 1] for path, part in state.items()},
                {path: part[row : row + 1] for path, part in lesson.items()},
                torch.tensor([count]),
            )
            assert all(torch.equal(part, after[path][row : row + 1]) for path, part in own.items())
            read = int(after["tokens"][row])
            for level, every in enumerate((2, 6)):
                for path in (path for path in state if path.startswith(f"{level}/")):
                    still = torch.equal(after[path][row], state[path][row])
                    if not count or (read % every and "/sums/" not in path):
                        assert still
                    elif read % every == 0 and "/sums/" in path:
                        assert not after[path][row].any()
                    elif "/optimizer/" not in path:
                        assert not still
        state = after


def test_a_nested_level_starts_anew_with_all_that_it_keeps() -> None:
    levels = (Level(every=every, optimizer="Momentum", options={"lr": 0.1}) for every in (2, 6, 12))
    memory, (x, target) = memory_of(*levels, form="nested"), regression()
    _, state = stream_learning(memory, x, squared(target), last=12)
    for path, fresh in memory.start(2).items():
        if path.startswith(("0/", "1/")) or "/sums/" in path:
            assert torch.equal(state[path], fresh), path
        else:
            assert not torch.equal(state[path], fresh), path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_steps_that_it_takes_on_a_parameter(name: str) -> None:
    """Rows that come in at different times, against the optimizer itself on each row's weights, fed with the sums of whole periods."""
    memory = memory_of(Level(every=2, optimizer=name), Level(every=6, optimizer=name))
    cls, slow = getattr(optim, name), {path: w[0].detach().clone() for path, w in memory.weights(memory.start(1)).items()}
    state = {path: part.detach() for path, part in memory.start(2).items()}
    rows = [{path: torch.nn.Parameter(w.clone()) for path, w in slow.items()} for _ in range(2)]
    each = [{path: cls([w]) for path, w in own.items()} for own in rows]
    sums = [{path: torch.zeros_like(w) for path, w in slow.items()} for _ in range(2)]
    read = [0, 0]
    for call, tokens in enumerate([(1, 0), (1, 1), (2, 1), (1, 2), (1, 0), (2, 2), (2, 2), (2, 1), (0, 1), (0, 2)]):
        lesson = _lesson(memory, state, seed=call)
        state = memory.learn(state, lesson, torch.tensor(tokens))
        for row, count in enumerate(tokens):
            read[row] += count
            for path, w in rows[row].items():
                sums[row][path] += lesson[path][row] * bool(count)
                if count and read[row] % (2 if path.startswith("0/") else 6) == 0:
                    w.grad = sums[row][path].clone()
                    each[row][path].step()
                    sums[row][path].zero_()
    assert read == [12, 12]
    for row in range(2):
        for path, w in rows[row].items():
            assert not torch.allclose(w, slow[path])
            assert_near(state[path][row], w, {torch.float64: 1e-7}, what=f"{path} of row {row}")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_outer_gradients_through_every_optimizer_are_finite(name: str) -> None:
    memory, (x, target) = memory_of(Level(every=2, optimizer=name), Level(every=6, optimizer=name)), regression(time=13)
    y, _ = stream_learning(memory, x, squared(target))
    gradients = torch.autograd.grad(squared(target)(y, slice(0, 13)), list(memory.parameters()))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert all(bool(gradient.any()) for gradient in gradients)


def test_empty_calls_change_nothing() -> None:
    memory, (x, target) = memory_of(*levels_of(2, 6)), regression()
    _, state = stream_learning(memory, x, squared(target), last=7)
    assert memory(x[:, :0], state).tolist() == [[], []]
    _same(memory.learn(state, _lesson(memory, state), torch.tensor([0, 0])), state)
    none = memory.start(0)
    assert memory(x[:0], none).shape[0] == 0
    assert memory.learn(none, memory.weights(none), torch.zeros(0, dtype=torch.long))["tokens"].tolist() == []


def test_there_is_room_up_to_the_next_update() -> None:
    memory = memory_of(*levels_of(4, 8))
    state = {**memory.start(3), "tokens": torch.tensor([0, 5, 7])}
    assert memory.room(state).tolist() == [4, 3, 1]
    still = memory_of(*levels_of(0))
    assert still.learn(still.start(1), {}, torch.tensor([10**9]))["tokens"].tolist() == [10**9]


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"every": -1}, r"got -1; 0 is a level that never changes"),
        ({"every": 2, "optimizer": "Sgd"}, r"no optimizer 'Sgd'; choose one of .*GradientDescent, "),
        ({"every": 2, "optimizer": "AbstractOptimizer"}, r"AbstractOptimizer is not one that takes params alone; choose one of"),
        ({"every": 2, "options": {"rate": 1.0}}, r"GradientDescent has no option 'rate'; it has lr"),
        ({"every": 2, "options": {"lr": -1.0}}, r"GradientDescent.lr must be at least 0"),
        ({"every": 2, "options": {"lr": 0.0}, "learnt_rate": True}, r"needs every > 0 and lr > 0, got 2 and 0.0"),
        ({"every": 0, "learnt_rate": True}, r"needs every > 0 and lr > 0, got 0"),
    ],
)
def test_a_level_that_cannot_be_is_refused_with_its_cure(settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        Level(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("levels", "form", "cure"),
    [
        ((), "sequential", "needs at least one level"),
        (levels_of(4, 6), "sequential", r"multiple of the shorter ones, got \[4, 6\]: 4 does not divide 6"),
        (levels_of(4, 4), "nested", r"periods of their own, got \[4, 4\]"),
        ((*levels_of(4), *levels_of(8, around="nothing")), "independent", "all or none of them are 'residual'"),
    ],
)
def test_levels_that_do_not_fit_are_refused_with_their_cure(levels: tuple[Level, ...], form: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        memory_of(*levels, form=form)


def test_an_optimizer_that_asks_for_more_than_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener(optim.GradientDescent):
        def __init__(self, module: torch.nn.Module, lr: float = 0.1) -> None:
            super().__init__(module.parameters(), lr=lr)

    monkeypatch.setattr(optim, "Listener", Listener, raising=False)
    with pytest.raises(ValueError, match="Listener is not one that takes params alone; choose one of"):
        Level(every=2, optimizer="Listener")


def test_choices_are_refused_in_words_where_no_checker_runs() -> None:
    """In these tests the checker of types speaks first; users do not have it."""
    program = """
from retain.layers import ContinuumMemory, Level
for call in (lambda: Level(every=2, around="norm"), lambda: ContinuumMemory(4, 8, levels=(Level(every=2),), form="headwise")):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "Level.around must be 'residual' or 'nothing', got 'norm'.",
        "form must be 'sequential', 'nested' or 'independent', got 'headwise'.",
    ]


def test_a_call_that_does_not_fit_is_refused_with_its_cure() -> None:
    memory, (x, _) = memory_of(*levels_of(2, 6)), regression()
    state = memory.start(2)
    lesson = _lesson(memory, state)
    with pytest.raises(ValueError, match=r"reads a stream of width 5, got x of shape \[2, 21, 4\]"):
        memory(x[..., :4], state)
    with pytest.raises(StateMismatch, match=r"the state has 2 rows and the input 1\."):
        memory(x[:1], state)
    with pytest.raises(StateMismatch, match=r"missing \['0/optimizer/down/momentum', .* unknown \[\]"):
        memory_of(Level(every=2, optimizer="Momentum"), *levels_of(6))(x, state)
    with pytest.raises(ValueError, match=r"names of weights\(state\): missing \['0/weights/up'\], unknown \['0/up'\]"):
        memory.learn(state, {path.replace("0/weights/up", "0/up"): part for path, part in lesson.items()}, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"gradient of '1/weights/down' must have the shape \[2, 5, 7\] of the weight, got \[5, 7\]"):
        memory.learn(state, {**lesson, "1/weights/down": lesson["1/weights/down"][0]}, torch.tensor([1, 1]))
    for tokens in ([1, 3], [-1, 1]):
        with pytest.raises(ValueError, match=r"rows may read \[2, 2\] tokens before a level changes, got .* Cut the stream"):
            memory.learn(state, lesson, torch.tensor(tokens))
    with pytest.raises(StateMismatch, match="2 rows and the input 3"):
        memory.learn(state, lesson, torch.tensor([1, 1, 1]))
