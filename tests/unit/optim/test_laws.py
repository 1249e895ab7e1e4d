"""What holds for every optimizer: one pure step, of one weight or of many, in place or differentiably."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from retain.optim import M3, AbstractOptimizer, DeepMomentum, GradientDescent, Momentum, SlowMomentum
from tests.tolerances import ROWS, assert_near
from tests.unit.optim.optimizers import CASES, EVERY, Case, numbers

SHAPES = [(3, 4), (4, 2), (5,), (2, 3, 2)]


def weights_of(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(numbers(*shape, seed=i)) for i, shape in enumerate(shapes)]


def lay(weights: list[nn.Parameter], step: int) -> None:
    """Gradients of a step, the same for weights of the same shape at the same place."""
    for i, weight in enumerate(weights):
        weight.grad = numbers(*weight.shape, seed=100 * step + i)


def walk(case: Case, weight: Tensor, gradients: list[Tensor], lead: int) -> tuple[Tensor, dict[str, Tensor]]:
    options = case.all_options
    state = case.kind.begin(weight, options, lead)
    for gradient in gradients:
        weight, state = case.kind.advance(weight, gradient, state, options, lead)
    return weight, state


@EVERY
@pytest.mark.parametrize("shape", [*SHAPES[1:], ()], ids=str)
def test_rows_are_weights_of_their_own(case: Case, shape: tuple[int, ...]) -> None:
    weight, gradients = numbers(2, 3, *shape), [10.0**i * numbers(2, 3, *shape, seed=1 + i) for i in (-2, 0, 1, 0, 0, 0)]
    gradients[3][0, 1] = 0.0
    both, states = walk(case, weight, gradients, lead=2)
    flat, flat_states = walk(case, weight.flatten(0, 1), [g.flatten(0, 1) for g in gradients], lead=1)
    assert_near(flat, both.flatten(0, 1), ROWS)
    for i in range(2):
        for j in range(3):
            alone, state = walk(case, weight[i, j], [g[i, j] for g in gradients], lead=0)
            assert_near(both[i, j], alone, {torch.float64: 1e-8}, "weight")
            for name, kept in state.items():
                assert_near(states[name][i, j], kept, {torch.float64: 1e-8}, name)
                assert_near(flat_states[name][3 * i + j], kept, {torch.float64: 1e-8}, name)


@EVERY
def test_rows_may_have_begun_at_other_times(case: Case) -> None:
    options, weights = case.all_options, numbers(4, 3, 4)
    alone = [walk(case, weights[i], [numbers(3, 4, seed=j) for j in range(i)], lead=0) for i in range(4)]
    weight = torch.stack([w for w, _ in alone])
    state = {name: torch.stack([kept[name] for _, kept in alone]) for name in alone[0][1]}
    start, first = weight.requires_grad_(), numbers(4, 3, 4, seed=50).requires_grad_()
    for step in range(4):
        gradient = first if step == 0 else numbers(4, 3, 4, seed=50 + step)
        weight, state = case.kind.advance(weight, gradient, state, options, 1)
        alone = [case.kind.advance(w, gradient[i], kept, options) for i, (w, kept) in enumerate(alone)]
        assert_near(weight, torch.stack([w for w, _ in alone]))
    assert all(bool(slope.isfinite().all()) for slope in torch.autograd.grad(weight.square().sum(), (start, first)))


@EVERY
@pytest.mark.parametrize("lead", [0, 1])
def test_more_than_two_axes_are_a_matrix(case: Case, lead: int) -> None:
    """The first axis against the others, as in a convolution."""
    shape, flat = (2, 4, 3, 2)[1 - lead :], (2, 4, 6)[1 - lead :]
    weight, gradients = numbers(*shape), [numbers(*shape, seed=1 + i) for i in range(4)]
    found, _ = walk(case, weight, gradients, lead)
    assert_near(found.reshape(flat), walk(case, weight.reshape(flat), [g.reshape(flat) for g in gradients], lead)[0])


@pytest.mark.parametrize("lead", [0, 1])
@EVERY
def test_gradients_flow_through_a_step(case: Case, lead: int) -> None:
    shape = (2, 3, 4)[1 - lead :]

    def twice(weight: Tensor, *gradients: Tensor) -> Tensor:
        return walk(case, weight, list(gradients), lead)[0]

    inputs = tuple(numbers(*shape, seed=i).requires_grad_() for i in range(4))
    assert gradcheck(twice, inputs, eps=1e-6, atol=2e-5, rtol=1e-4)


@EVERY
def test_gradients_are_finite_where_there_was_no_gradient(case: Case) -> None:
    weight, gradients = numbers(2, 3, 4).requires_grad_(), [numbers(2, 3, 4, seed=i) for i in range(3)]
    for gradient in gradients:
        gradient[0] = 0.0
        gradient[1, 1] = 0.0
        gradient.requires_grad_()
    after, _ = walk(case, weight, gradients, lead=1)
    after.square().sum().backward()
    for tensor in (weight, *gradients):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())


@EVERY
def test_a_step_changes_nothing_that_it_was_given(case: Case) -> None:
    weight, gradient, options = numbers(3, 4), numbers(3, 4, seed=1), case.all_options
    _, state = walk(case, weight, [gradient, gradient], lead=0)
    before = copy.deepcopy((weight, gradient, state))
    after, new = case.kind.advance(weight, gradient, state, options)
    assert_near(weight, before[0])
    assert_near(gradient, before[1])
    for name, kept in state.items():
        assert_near(kept, before[2][name])
    assert not {t.data_ptr() for t in (after, *new.values())} & {weight.data_ptr(), gradient.data_ptr()}


@EVERY
def test_in_place_is_the_pure_step(case: Case) -> None:
    weights = weights_of(*SHAPES, ())
    pure = [(weight.detach().clone(), case.kind.begin(weight, case.all_options)) for weight in weights]
    optimizer = case.made(weights)
    for step in range(7):
        lay(weights, step)
        weights[0].grad = None if step == 3 else weights[0].grad
        moved = [
            case.kind.advance(weight, p.grad, state, case.all_options) if p.grad is not None else (weight, state)
            for p, (weight, state) in zip(weights, pure, strict=True)
        ]
        pure = moved
        optimizer.step()
        for p, (weight, state) in zip(weights, pure, strict=True):
            assert_near(p.data, weight)
            for name, kept in state.items():
                assert_near(optimizer.state[p][name], kept, what=name)


@EVERY
def test_nothing_of_a_graph_is_kept(case: Case) -> None:
    weight = nn.Parameter(numbers(3, 4))
    optimizer = case.made([weight])
    (weight.grad,) = torch.autograd.grad(weight.tanh().sum(), weight, create_graph=True)
    optimizer.step()
    optimizer.step()
    assert weight.is_leaf
    assert weight.requires_grad
    assert all(not kept.requires_grad for kept in optimizer.state[weight].values())
    weight.grad = None


@EVERY
def test_weights_of_low_precision_learn(case: Case) -> None:
    weight = nn.Parameter(numbers(3, 4).bfloat16())
    optimizer, before = case.made([weight]), float(weight.detach().float().square().sum())
    for _ in range(10):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.dtype == torch.bfloat16
    assert float(weight.detach().float().square().sum()) < before or not case.rests


@EVERY
def test_goes_on_from_what_was_saved(case: Case) -> None:
    weights = weights_of(*SHAPES)
    optimizer = case.made(weights)
    for step in range(4):
        lay(weights, step)
        optimizer.step()
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    restored = case.kind(others, **{**case.options, "lr": 7.0})
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    third, copied = copy.deepcopy((weights, optimizer))
    for step in range(4, 9):
        for those, these in ((optimizer, weights), (restored, others), (copied, third)):
            lay(these, step)
            those.step()
    for weight, other, copy_of in zip(weights, others, third, strict=True):
        assert_near(other.data, weight.data)
        assert_near(copy_of.data, weight.data)
    assert all(isinstance(kept, Tensor) for state in optimizer.state_dict()["state"].values() for kept in state.values())


@EVERY
def test_groups_go_their_own_ways(case: Case) -> None:
    a, b, alone, slower = weights_of((3, 4), (3, 4), (3, 4), (3, 4))
    slower.data.copy_(b)
    alone.data.copy_(a)
    optimizer = case.made([a])
    optimizer.add_param_group({"params": [b], "lr": case.lr / 2})
    apart = [case.made([alone]), case.made([slower], lr=case.lr / 2)]
    for step in range(4):
        lay([a, b], step)
        lay([alone, slower], step)
        for each in (optimizer, *apart):
            each.step()
    assert_near(a.data, alone.data)
    assert_near(b.data, slower.data)


@EVERY
def test_a_bad_option_is_refused_before_anything_changes(case: Case) -> None:
    weight, other = weights_of((3, 4), (2, 2))
    optimizer = case.made([weight])
    with pytest.raises(ValueError, match=r"lr must be at least 0, got -1"):
        optimizer.add_param_group({"params": [other], "lr": -1.0})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="has no option 'speed'"):
        case.kind.options(speed=1)
    sparse = nn.Embedding(3, 2, sparse=True)
    optimizer = case.made([weight, sparse.weight])
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    assert_near(weight.data, before)


@EVERY
def test_a_closure_and_a_scheduler_are_welcome(case: Case) -> None:
    weight, same = nn.Parameter(numbers(3, 4)), nn.Parameter(numbers(3, 4))
    optimizer, by_hand = case.made([weight]), case.made([same])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    for step in range(3):
        expected = same.detach().square().sum()
        by_hand.param_groups[0]["lr"] = case.lr / (1 + step)
        same.grad = 2 * same.detach()
        by_hand.step()
        with torch.no_grad():
            assert_near(optimizer.step(closure), expected)
        scheduler.step()
        assert_near(weight.data, same.data)


@EVERY
def test_a_rate_may_be_a_tensor_that_learns(case: Case) -> None:
    options, weight, gradient = case.all_options, numbers(3, 4), numbers(3, 4, seed=1)
    rate = torch.tensor(case.lr, dtype=torch.float64, requires_grad=True)
    after, _ = case.kind.advance(weight, gradient, case.kind.begin(weight, options), {**options, "lr": rate})
    expected, _ = case.kind.advance(weight, gradient, case.kind.begin(weight, options), options)
    assert_near(after, expected)
    (slope,) = torch.autograd.grad(after.sum(), rate)
    assert float(slope) != 0.0


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (Momentum, {"alpha": 1.5}, r"Momentum.alpha must lie in \[0, 1\], got 1.5"),
        (DeepMomentum, {"objective": "l2"}, "nothing to learn"),
        (DeepMomentum, {"hidden": 0}, "hidden of at least 1"),
        (DeepMomentum, {"output": "tanh"}, "'identity', 'sign', 'newton_schulz'"),
        (M3, {"slow": SlowMomentum(every=0)}, "every at least 1"),
        (M3, {"slow": (0.5, 10, 0.9)}, "SlowMomentum"),
        (M3, {"betas": (0.9, 1.0)}, r"betas\[1\] must lie in \[0, 1\)"),
        (M3, {"orthogonal": "cubic"}, "NewtonSchulz"),
        (M3, {"eps": -1e-8}, "eps must be at least 0"),
    ],
)
def test_a_refusal_says_what_was_expected(kind: type[AbstractOptimizer], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind.options(**options)


def _losses(case: Case, steps: int, loss_of: Callable[[], Tensor], params: list[nn.Parameter]) -> list[float]:
    optimizer, losses = case.made(params), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@EVERY
def test_a_quadratic_comes_to_rest(case: Case) -> None:
    """But for sums that never forget a gradient, and the paper's example of an inner objective, which does not descend."""
    weight, goal = nn.Parameter(torch.zeros(3, 4, dtype=torch.float64)), numbers(3, 4)
    losses = _losses(case, 300, lambda: (weight - goal).square().sum() / 2, [weight])
    assert (max(losses[-20:]) < 0.02 * losses[0]) == case.rests


@pytest.mark.parametrize("case", [case for case in CASES if case.options.get("objective") != "sum"], ids=str)
def test_a_small_classifier_learns(case: Case) -> None:
    """Two moons: a network of one hidden layer tells them apart, weights and biases both."""
    turn = torch.linspace(0, 3.14159, 40, dtype=torch.float64)
    x = torch.cat([torch.stack([turn.cos(), turn.sin()], 1), torch.stack([1 - turn.cos(), 0.5 - turn.sin()], 1)])
    x = x + 0.1 * numbers(80, 2)
    y = torch.arange(80) // 40
    a, c = nn.Parameter(numbers(16, 2, seed=1)), nn.Parameter(numbers(2, 16, seed=2) / 4)
    b = nn.Parameter(torch.zeros(16, dtype=torch.float64))

    def said() -> Tensor:
        return torch.tanh(x @ a.mT + b) @ c.mT

    _losses(case, 300, lambda: nn.functional.cross_entropy(said(), y), [a, b, c])
    assert float((said().argmax(1) == y).double().mean()) > 0.92


def test_there_is_a_case_for_every_optimizer() -> None:
    known, waiting = set(), [AbstractOptimizer]
    while waiting:
        waiting += (found := waiting.pop().__subclasses__())
        known |= {kind.__name__ for kind in found if kind.__module__.startswith("retain.optim")}
    assert known - {case.kind.__name__ for case in CASES} == {"DeltaGradientDescent"}
    assert GradientDescent.begin(torch.ones(2), {}) == {}
