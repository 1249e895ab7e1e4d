"""The self-modifying layer: equal to its meaning token by token, streams cut anywhere, rows of their own, gates at their ends, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retain import MemoryState, Output
from retain.core.errors import StateMismatch
from retain.layers import Rates, SelfModifyingMemory, SelfModifyingRule
from retain.layers.self_modifying.chunks import in_chunks
from retain.layers.self_modifying.recurrent import token_by_token
from retain.memory.structure import Matrix, ResidualMLP
from retain.numerics.rank_one import Erasing, Stretch
from tests.samples import DIM, stream
from tests.tolerances import assert_near

EXACT = {torch.float64: 1e-10}
TIME = 11
LAYERS: dict[str, dict[str, object]] = {
    "hope": {"rule": SelfModifyingRule(chunk=4)},
    "two_clocks": {"rule": SelfModifyingRule(chunk=6, projection_chunk=4, momentum=0.6)},
    "matrices": {"rule": SelfModifyingRule(chunk=2, projection_chunk=6), "structure": Matrix(), "conv": 1},
    "hebbian": {"rule": SelfModifyingRule(chunk=4, momentum=0.6, objective="dot", update="gd"), "structure": Matrix()},
    "matrices_with_momentum": {"rule": SelfModifyingRule(chunk=5, momentum=0.6), "structure": Matrix(), "output": Output(gate="head")},
    "gradient_descent": {"rule": SelfModifyingRule(chunk=4, update="gd", unit=frozenset({"k", "v"})), "structure": ResidualMLP(activation="silu")},
    "all_to_one_value": {
        "rule": SelfModifyingRule(chunk=4, targets="shared"),
        "structure": ResidualMLP(activation="tanh"),
        "adaptive": frozenset({"k", "v", "q", "eta", "alpha", "memory"}),
    },
    "still_projections": {"rule": SelfModifyingRule(chunk=4), "adaptive": frozenset({"memory"})},
    "still_memory": {
        "rule": SelfModifyingRule(chunk=3, decay=False),
        "structure": ResidualMLP(activation="relu"),
        "adaptive": frozenset({"q", "k", "eta"}),
    },
}
every_layer = pytest.mark.parametrize("name", LAYERS)
some_layers = pytest.mark.parametrize("name", ["hope", "two_clocks", "matrices_with_momentum"])


def layer(name: str = "hope", **changes: object) -> SelfModifyingMemory:
    """A layer in float64 whose slow weights do not stand where they start, and that learns fast."""
    torch.manual_seed(0)
    given = {"heads": 2, "rates": Rates(eta=0.4, alpha=0.9), **LAYERS[name], **changes}
    memory = SelfModifyingMemory(DIM, **given).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for weight in memory.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return memory


def by_meaning(name: str = "hope", **changes: object) -> SelfModifyingMemory:
    memory = layer(name, **changes)
    memory.way = token_by_token
    return memory


def same_place(ours: MemoryState, theirs: MemoryState, tolerance: dict[torch.dtype, float] = EXACT) -> None:
    found, expected = dict(ours.tensors()), dict(theirs.tensors())
    assert found.keys() == expected.keys()
    for path, tensor in expected.items():
        assert_near(found[path], tensor, tolerance, path)


# ---- the meaning


def lesson(memory: SelfModifyingMemory, x: Tensor, **call: Tensor) -> tuple[Tensor, MemoryState, dict[str, Tensor]]:
    """Outputs, the state and all gradients of a loss that asks for both."""
    x = x.clone().requires_grad_()
    y, state = memory(x, **call)
    held = sum((tensor.square().sum() for _, tensor in state.tensors() if tensor.is_floating_point()), torch.zeros(()))
    ((y * torch.arange(1, x.shape[1] + 1)[:, None]).sum() + held).backward()
    slopes = {"x": x.grad, **{path: w.grad for path, w in memory.named_parameters()}}
    for path, slope in slopes.items():
        assert slope is not None, path
        assert bool(slope.any()), path
    return y, state, slopes  # pyright: ignore[reportReturnType]


def same_lesson(memory: SelfModifyingMemory, meaning: SelfModifyingMemory, **call: Tensor) -> None:
    (y, state, slopes), (expected, end, others) = (lesson(each, stream(time=TIME), **call) for each in (memory, meaning))
    assert_near(y, expected, EXACT, "outputs")
    same_place(state, end)
    for path, slope in others.items():
        assert_near(slopes[path], slope, EXACT, path)


@every_layer
def test_chunks_are_tokens_one_by_one_and_so_are_all_gradients(name: str) -> None:
    same_lesson(layer(name), by_meaning(name))


@some_layers
def test_chunks_of_rows_with_gaps_are_tokens_one_by_one(name: str) -> None:
    mask, write = torch.ones(2, 2, TIME, dtype=torch.bool).unbind()
    mask[0, 2:4], write[1, 5:9] = False, False
    same_lesson(layer(name), by_meaning(name), mask=mask, write_mask=write)


@some_layers
def test_what_is_computed_again_changes_nothing(name: str) -> None:
    again, kept = layer(name), layer(name)
    again.way, kept.way = partial(in_chunks, passage=1), partial(in_chunks, passage=0)
    same_lesson(again, kept)


@pytest.mark.parametrize("alphas", [(0.0, 1.0), (1.0, 0.0)])
@some_layers
def test_gates_at_their_ends_are_gates(name: str, alphas: tuple[float, float]) -> None:
    """Of the two heads one writes with a rate of one, the other with none."""
    found = []
    for make in (layer, by_meaning):
        memory = make(name)
        with torch.no_grad():
            for gate, ends in (("alpha", alphas), ("eta", (1.0, 0.0))):
                memory.biases[gate].copy_(1e4 * (2 * torch.tensor(ends) - 1))
        x = stream(time=8).requires_grad_()
        y, state = memory(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x)
        found.append((y, state, slope))
    assert_near(found[0][0], found[1][0], EXACT, "outputs")
    same_place(found[0][1], found[1][1])
    assert_near(found[0][2], found[1][2], EXACT, "slopes")


@pytest.mark.parametrize("momentum", [False, True])
def test_a_stretch_of_steps_is_its_steps(momentum: bool) -> None:
    source = torch.Generator().manual_seed(0)
    k, w, e, s = (torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((3, 7, 4), (3, 2, 4, 5), (3, 2, 7, 5), (3, 2, 4, 5)))
    rates, keeps, lingers = torch.rand(3, 3, 7, generator=source, dtype=torch.float64).unbind()
    keeps[0, 2], keeps[1, 3], rates[0, 4], rates[2, 0], lingers[0, 1], lingers[1, 5] = 0.0, 1.0, 0.0, 1.0, 0.0, 1.0
    active = torch.rand(3, 7, generator=source) < 0.7
    steps = Stretch.of(rates, keeps, lingers if momentum else None, active)
    for erase in (True, False):
        weight, moment = w, s if momentum else torch.zeros_like(s)
        for t in range(7):
            on, outer = active[:, t, None, None, None], k[:, t, None, :, None] * e[:, :, t, None, :]
            rate, keep, linger = (gate[:, t, None, None, None] for gate in (rates, keeps, lingers))
            moved = (linger * moment if momentum else 0.0) - rate * outer
            taken = rate * k[:, t, None, :, None] * (k[:, t, None, None, :] @ weight) if erase else 0.0
            weight, moment = torch.where(on, keep * weight - taken + moved, weight), torch.where(on, moved, moment)
        start = s if momentum else None
        found, lingering = Erasing.of(k, steps).add(w, start, e) if erase else steps.add(w, start, k.unsqueeze(1), e)
        assert_near(found, weight, EXACT)
        if momentum:
            assert lingering is not None
            assert_near(lingering, moment, EXACT)


# ---- one stream, any calls


@every_layer
@settings(max_examples=2)
@given(cuts=st.lists(st.integers(0, TIME), max_size=4))
@torch.no_grad()
def test_a_stream_cut_anywhere_is_the_stream(name: str, cuts: list[int]) -> None:
    memory, x = layer(name), stream(time=TIME)
    whole, end = memory(x)
    state, parts = memory.start(2), []
    for start, stop in pairwise([0, *sorted(cuts), TIME]):
        y, state = memory(x[:, start:stop], state)
        parts.append(y)
    assert_near(torch.cat(parts, dim=1), whole, EXACT, "outputs")
    same_place(state, end)


@some_layers
def test_the_gradients_of_a_stream_token_by_token_are_those_of_the_stream(name: str) -> None:
    found = []
    for cuts in ([0, TIME], range(TIME + 1)):
        memory, x, state, total = layer(name), stream(time=TIME).requires_grad_(), None, torch.zeros((), dtype=torch.float64)
        for start, stop in pairwise(cuts):
            y, state = memory(x[:, start:stop], state)
            total = total + (y * torch.arange(start, stop)[:, None]).sum()
        total.backward()
        found.append({"x": x.grad, **{path: w.grad for path, w in memory.named_parameters()}})
    for path, slope in found[0].items():
        other = found[1][path]
        assert slope is not None, path
        assert other is not None, path
        assert_near(slope, other, EXACT, path)


@every_layer
@torch.no_grad()
def test_the_future_is_not_seen(name: str) -> None:
    memory, x = layer(name), stream(time=TIME)
    whole = memory(x)[0]
    for t in (0, 3, 4, 6, 11):
        other = torch.cat([x[:, :t], stream(time=TIME, seed=1)[:, t:]], dim=1)
        assert_near(memory(other)[0][:, :t], whole[:, :t], {torch.float64: 1e-14})


# ---- rows of their own


@some_layers
@settings(max_examples=2)
@given(data=st.data())
@torch.no_grad()
def test_padding_anywhere_leaves_no_trace(name: str, data: st.DataObject) -> None:
    memory, x = layer(name), stream(batch=3, time=14)
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=14, max_size=14)) for _ in range(3)])
    y, state = memory(torch.where(mask.unsqueeze(-1), x, torch.nan), mask=mask)
    assert not y[~mask].any()
    more = stream(batch=3, time=9, seed=5)
    later, end = memory(more, state)
    for b in range(3):
        alone, after = memory(x[b : b + 1, mask[b]])
        assert_near(y[b, mask[b]], alone[0], EXACT, "outputs")
        again, last = memory(more[b : b + 1], after)
        assert_near(later[b : b + 1], again, EXACT, "outputs of the next call")
        same_place(end[[b]], last)


@some_layers
@torch.no_grad()
def test_packed_sequences_are_rows_of_their_own(name: str) -> None:
    memory, x, bounds = layer(name), stream(batch=1, time=17), [0, 9, 9, 10, 17]
    y, state = memory(x, cu_seqlens=torch.tensor(bounds))
    for b, (start, stop) in enumerate(pairwise(bounds)):
        alone, after = memory(x[:, start:stop])
        assert_near(y[:, start:stop], alone, EXACT, "outputs")
        same_place(state[[b]], after)
    assert state.clock.tolist() == [9, 0, 1, 7]


@some_layers
@torch.no_grad()
def test_rows_at_different_places_decode_token_by_token(name: str) -> None:
    memory, x, lengths = layer(name), stream(batch=3, time=18), [2, 7, 0]
    whole = memory(x)[0]
    _, state = memory(x[:, :7], mask=torch.arange(7) < torch.tensor(lengths)[:, None])
    for step in range(10):
        y, state = memory(torch.stack([x[b, length + step] for b, length in enumerate(lengths)]).unsqueeze(1), state)
        for b, length in enumerate(lengths):
            assert_near(y[b, 0], whole[b, length + step], EXACT, f"row {b}, step {step}")


@torch.no_grad()
def test_rows_are_chosen_reset_and_joined() -> None:
    memory, x, more = layer(), stream(batch=3, time=13), stream(batch=3, time=9, seed=1)
    _, state = memory(x)
    going_on, fresh = memory(more, state)[0], memory(more)[0]
    y, after = memory(more, memory.reset(state, torch.tensor([False, True, False])))
    assert_near(y, torch.stack([going_on[0], fresh[1], going_on[2]]))
    assert after.clock.tolist() == [22, 9, 22]
    assert_near(memory(more[[2, 0]], state[[2, 0]])[0], going_on[[2, 0]])
    joined = MemoryState.cat([state[1:], memory.start(2)])
    assert_near(memory(torch.cat([more[1:], more[:2]]), joined)[0], torch.cat([going_on[1:], fresh[:2]]))


# ---- writing and not writing, and the state


@every_layer
@torch.no_grad()
def test_reading_only_answers_with_all_that_was_written(name: str) -> None:
    memory, z = layer(name, conv=1), stream(time=5, seed=1)
    _, state = memory(stream(time=10))
    y, after = memory(z, state, write=False)
    assert after is state
    newest = MemoryState(anchor=state.accumulator, accumulator=state.accumulator, moments=state.moments, clock=torch.zeros_like(state.clock))
    for t in range(5):
        assert_near(y[:, t : t + 1], memory(z[:, t : t + 1], newest)[0], EXACT)


@torch.no_grad()
def test_tokens_left_out_by_the_write_mask_are_not_learnt_but_counted() -> None:
    memory, x = layer(conv=1), stream(time=14)
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[0, 6:10] = False
    y, state = memory(x, write_mask=mask)
    assert state.clock.tolist() == [14, 14]
    other = torch.where(mask.unsqueeze(-1), x, stream(time=14, seed=7))
    assert_near(memory(other, write_mask=mask)[0][mask], y[mask], EXACT)
    nothing = memory(x, write_mask=torch.zeros_like(mask))[1]
    for path, weight in memory.start(2).accumulator.items():
        assert_near(nothing.accumulator[path], weight, EXACT, path)


@every_layer
@torch.no_grad()
def test_a_state_is_made_again_from_its_tensors(name: str) -> None:
    memory, x = layer(name), stream(time=TIME)
    whole, _ = memory(x)
    _, state = memory(x[:, :7])
    again = MemoryState.of(dict(state.tensors()))
    assert_near(memory(x[:, 7:], again)[0], whole[:, 7:], EXACT)
    assert {t.shape[0] for _, t in state.tensors()} == {2}


# ---- numbers


@pytest.mark.parametrize("structure", [ResidualMLP(), Matrix()])
@torch.no_grad()
def test_a_memory_does_not_fade_while_it_reads(structure: ResidualMLP | Matrix) -> None:
    torch.manual_seed(0)
    memory = SelfModifyingMemory(32, heads=2, structure=structure)
    start, (_, state) = memory.start(1), memory(torch.randn(1, 64, 32))
    for time, most in ((64, 1.25), (1000, 5.0)):
        for path, norm in state.norms().items():
            change = norm / start.norms()[path]
            assert 1 / most < float(change.min()), f"{path} after {time}"
            assert float(change.max()) < most, f"{path} after {time}"
        _, state = memory(torch.randn(1, 1000 - 64, 32), state)


@pytest.mark.parametrize(
    ("structure", "rule"),
    [
        (ResidualMLP(), SelfModifyingRule(chunk=50, momentum=0.5)),
        (Matrix(), SelfModifyingRule(chunk=50)),
        (Matrix(), SelfModifyingRule(chunk=50, objective="dot")),
    ],
)
@torch.no_grad()
def test_ten_thousand_tokens_leave_a_finite_memory(structure: ResidualMLP | Matrix, rule: SelfModifyingRule) -> None:
    torch.manual_seed(0)
    memory = SelfModifyingMemory(8, heads=1, structure=structure, rule=rule, rates=Rates(eta=0.3))
    y, state = memory(torch.randn(1, 10_000, 8))
    assert bool(torch.isfinite(y).all())
    assert all(float(tensor.abs().max()) < 100 for path, tensor in state.tensors() if path != "clock")


def test_a_memory_is_kept_in_float32_whatever_the_stream_is() -> None:
    torch.manual_seed(0)
    memory, x = SelfModifyingMemory(16, heads=2, rule=SelfModifyingRule(chunk=4, momentum=0.5)), torch.randn(2, 19, 16)
    exact, _ = memory(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = memory(x)
    y.float().square().sum().backward()
    assert {t.dtype for _, t in state.tensors() if t.is_floating_point()} == {torch.float32}
    assert float((y.float() - exact).detach().abs().max()) < 0.05
    for path, weight in memory.named_parameters():
        assert weight.grad is not None, path
        assert bool(torch.isfinite(weight.grad).all()), path
        assert bool(weight.grad.any()), path


def test_a_start_is_harmless() -> None:
    """A fresh layer of perceptrons hands on its queries, nearly."""
    torch.manual_seed(0)
    memory = SelfModifyingMemory(16, heads=2, conv=1, output=Output(norm=None, gate=None, project=False))
    assert memory.to_q is not None
    x = torch.randn(2, 40, 16)
    q = torch.nn.functional.normalize(memory.to_q(x).unflatten(-1, (2, 8)), dim=-1).flatten(-2)
    assert float((memory(x)[0] - q).detach().abs().max()) < 0.1


# ---- refusals


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: layer(heads=4), "heads must be positive and divide dim, got heads=4 and dim=6"),
        (lambda: layer(adaptive=frozenset({"beta"})), "adaptive names at least one of the memories eta, alpha, k, v, q, memory, got beta"),
        (lambda: layer(adaptive=frozenset()), "got none"),
        (lambda: layer("still_memory", adaptive=frozenset({"alpha"})), "there is no alpha with decay=False"),
        (lambda: SelfModifyingRule(chunk=0), "chunk must be at least 1, got 0"),
        (lambda: SelfModifyingRule(momentum=1.0), r"strictly between 0 and 1, got 1.0. For none use momentum=None"),
        (lambda: SelfModifyingRule(unit=frozenset({"x"})), "must be some of q, k and v, got x"),
        (lambda: Rates(eta_max=2.0), r"eta_max must lie in \(0, 1\], got 2.0"),
        (lambda: Rates(eta=1.0), "strictly between 0 and eta_max=1.0, got 1.0"),
        (lambda: Rates(alpha=1.0), r"use SelfModifyingRule\(decay=False\)"),
        (lambda: ResidualMLP(expansion=0.0), "expansion must be positive, got 0.0"),
        (lambda: ResidualMLP().init(1, 2, 3), "must be equally wide, got 2 and 3"),
    ],
)
def test_what_cannot_be_is_refused_with_its_cure(make: Callable[[], object], cure: str) -> None:
    with pytest.raises((ValueError, TypeError), match=cure):
        make()


def test_a_call_that_does_not_fit_is_refused_with_its_cure() -> None:
    memory, x = layer(), stream()
    with pytest.raises(ValueError, match=r"reads a stream of width 6, got x of shape \[2, 11, 5\]"):
        memory(x[..., :5])
    with pytest.raises(StateMismatch, match=r"the state has 3 rows and the input 2\. Choose rows with"):
        memory(x, memory.start(3))
    for other in (layer("two_clocks"), layer("matrices"), layer(adaptive=frozenset({"k"}))):
        with pytest.raises(StateMismatch, match="not one of this layer's"):
            memory(x, other.start(2))
