"""Products of factors, ragged rows, and forgetting on purpose."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retain.numerics import Layout, products, recompute, running
from retain.numerics.ragged import gather, join, trim
from tests.tolerances import GRADIENTS, assert_near

FACTORS = st.lists(st.sampled_from([0.0, 1.0, 0.5, 0.9, 1e-30, -0.7]), min_size=1, max_size=8)


def _explicit(factors: Tensor) -> Tensor:
    n = len(factors)
    return torch.stack([torch.stack([factors[i + 1 : t + 1].prod() if i <= t else factors.new_zeros(()) for i in range(n)]) for t in range(n)])


@given(values=FACTORS)
def test_products_are_the_explicit_ones(values: list[float]) -> None:
    a = torch.tensor(values, dtype=torch.float64)
    assert_near(products(a), _explicit(a))
    assert_near(running(a, products(a)), a.cumprod(0))


@given(values=FACTORS)
def test_products_solve_their_recurrence(values: list[float]) -> None:
    a, x = torch.tensor(values, dtype=torch.float64), torch.randn(len(values), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s, states = torch.zeros((), dtype=torch.float64), []
    for factor, entry in zip(a, x, strict=True):
        s = factor * s + entry
        states.append(s)
    assert_near(products(a) @ x, torch.stack(states))


@given(values=FACTORS)
def test_gradients_of_products_are_those_of_the_explicit_ones(values: list[float]) -> None:
    weight = torch.randn(len(values), len(values), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for _ in range(2))
    (ours,) = torch.autograd.grad((products(a) * weight).sum(), a)
    (theirs,) = torch.autograd.grad((_explicit(b) * weight).sum(), b, allow_unused=True, materialize_grads=True)
    assert_near(ours, theirs, GRADIENTS)


def test_gradients_of_products_pass_the_difference_quotient_once_and_twice() -> None:
    a = torch.tensor([[0.3, 0.0, 1.0, 0.8], [1.0, 1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(products, (a,))
    assert torch.autograd.gradgradcheck(products, (a,))


def test_recomputing_gives_the_same_values_and_gradients() -> None:
    def function(x: Tensor, none: Tensor | None, w: Tensor, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert none is None
        assert whole.dtype == torch.long
        return (x @ w).tanh(), x, (w * whole).sum(0)

    def gradients(run: object) -> list[Tensor]:
        assert callable(run)
        source = torch.Generator().manual_seed(0)
        x, w = (torch.randn(3, 3, dtype=torch.float64, generator=source, requires_grad=True) for _ in range(2))
        outputs = run(x, None, w, torch.tensor([1, 2, 3]))
        total = sum((out * torch.randn(out.shape, dtype=out.dtype, generator=source)).sum() for out in outputs)
        return [*outputs, *torch.autograd.grad(total, [x, w])]

    for ours, theirs in zip(gradients(lambda *inputs: recompute(function, *inputs)), gradients(function), strict=True):
        assert_near(ours, theirs)


def test_recomputing_keeps_nothing_but_its_inputs() -> None:
    kept: list[Tensor] = []
    x = torch.randn(4, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        recompute(lambda x: (x.exp().sin().exp(),), x)
    assert len(kept) == 1
    assert kept[0] is x


def test_recomputing_runs_under_the_autocast_of_the_first_time() -> None:
    seen: list[torch.dtype] = []

    def function(x: Tensor, w: Tensor) -> tuple[Tensor]:
        out = x @ w
        seen.append(out.dtype)
        return (out,)

    x, w = torch.randn(2, 2, requires_grad=True), torch.randn(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        (out,) = recompute(function, x, w)
    out.float().sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, int]:
    tile, rows = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        phase, lengths = [draw(st.integers(0, tile - 1))] * rows, [draw(st.integers(0, 9))] * rows
    else:
        phase, lengths = [draw(st.integers(0, tile - 1)) for _ in range(rows)], [draw(st.integers(0, 9)) for _ in range(rows)]
    return Layout(torch.tensor(phase), torch.tensor(lengths), tile), max(lengths) + draw(st.integers(0, 2))


@given(drawn=layouts(), seed=st.integers(0, 99))
def test_taking_from_a_grid_undoes_placing_on_it(drawn: tuple[Layout, int], seed: int) -> None:
    layout, time = drawn
    x = torch.randn(len(layout.lengths), time, 2, generator=torch.Generator().manual_seed(seed))
    behind = (torch.arange(time) >= layout.lengths[:, None]).unsqueeze(-1)
    grid = layout.place(torch.where(behind, torch.nan, x))
    assert grid.shape[1] == layout.cells
    assert torch.equal(layout.take(grid, time), torch.where(behind, 0.0, x))


@given(drawn=layouts())
def test_tokens_lie_on_the_grid_in_order_at_their_phase_and_end_in_the_last_tile(drawn: tuple[Layout, int]) -> None:
    layout, time = drawn
    grid = layout.place((1 + torch.arange(time)).expand(len(layout.lengths), time))
    for row, (phase, length) in enumerate(zip(layout.phase.tolist(), layout.lengths.tolist(), strict=True)):
        cells = grid[row].nonzero().flatten()
        assert grid[row][cells].tolist() == list(range(1, length + 1))
        assert int(layout.offset[row]) % layout.tile == phase
        if length:
            assert cells.tolist() == list(range(int(layout.offset[row]), int(layout.end[row])))
            assert (int(cells[-1])) // layout.tile == layout.tiles - 1


@given(counts=st.lists(st.integers(0, 3), min_size=1, max_size=4), time=st.integers(0, 3))
def test_joining_and_trimming_are_inverse(counts: list[int], time: int) -> None:
    before = torch.tensor(counts)
    first, second = torch.full((len(counts), max(counts)), -1.0), 1.0 + torch.arange(len(counts) * time).reshape(len(counts), time)
    first[torch.arange(max(counts)) >= before[:, None]] = torch.nan
    joined = join(first, before, second)
    assert torch.equal(trim(joined, before, time), second)
    for row, count in enumerate(counts):
        assert joined[row, : count + time].tolist() == [-1.0] * count + second[row].tolist()


def test_gathering_blanks_what_is_not_there() -> None:
    x = torch.tensor([[[1.0], [torch.nan]]])
    assert gather(x, torch.tensor([[0, 1, 0]]), torch.tensor([[True, False, True]])).tolist() == [[[1.0], [0.0], [1.0]]]
    assert gather(x[:, :0], torch.tensor([[0, 0]]), torch.tensor([[False, False]])).tolist() == [[[0.0], [0.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_factors_underflow_to_zero_and_not_to_nan(dtype: torch.dtype) -> None:
    a = torch.full((300,), 1e-3, dtype=dtype, requires_grad=True)
    table = products(a)
    (slope,) = torch.autograd.grad(table.sum(), a)
    assert bool(torch.isfinite(table).all())
    assert bool(torch.isfinite(slope).all())
