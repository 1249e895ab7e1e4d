"""Nested Learning, sections 3.1, 4.2 to 4.4 and appendix B: momentum as a memory of gradients, and more expressive ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retain.numerics import newton_schulz
from retain.optim import AbstractOptimizer, DeepMomentum, DeltaMomentum, FeatureMapMomentum, Momentum, PreconditionedMomentum
from tests.paper.argmin import FOUND, argmin
from tests.paper.ledger import entries
from tests.tolerances import assert_near

OUT, IN, ETA, ALPHA = 3, 5, 0.2, 0.8
EYE = torch.eye(IN, dtype=torch.float64)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(steps: int = 5, *shape: int) -> list[Tensor]:
    return [numbers(*(shape or (OUT, IN)), seed=10 + i) for i in range(steps)]


def one(kind: type[AbstractOptimizer], memory: Tensor, gradient: Tensor, **options: Any) -> Tensor:
    """What is added to a weight, where ``memory`` is the momentum so far."""
    after, state = kind.advance(torch.zeros_like(memory), gradient, {"momentum": memory}, kind.options(**options))
    assert_near(after, state["momentum"])
    return after


def walk(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.data


def start(*shape: int) -> nn.Parameter:
    return nn.Parameter(numbers(*(shape or (OUT, IN))))


@pytest.mark.equation("nested_learning", 10)
@pytest.mark.equation("nested_learning", 11)
@pytest.mark.equation("nested_learning", 12)
def test_momentum_without_decay_sums_gradients() -> None:
    a, b, w, m = start(), start(), numbers(OUT, IN), torch.zeros(OUT, IN, dtype=torch.float64)
    for gradient in stream():
        m = m + ETA * gradient
        w = w - m
    assert_near(walk(Momentum([a], lr=ETA, alpha=1.0), a, stream()), w)
    assert_near(walk(torch.optim.SGD([b], lr=ETA, momentum=1.0), b, stream()), w)


@pytest.mark.equation("nested_learning", 13)
def test_momentum_is_a_memory_that_moves_towards_a_gradient() -> None:
    """m = argmin -<m, G> + |m - m_t|^2 / 2 eta = argmin -<m x, u> + ..., with our momentum the other way round."""
    m, u, x = numbers(OUT, IN), numbers(OUT, seed=1), numbers(IN, seed=2)
    found = -one(Momentum, -m, torch.outer(u, x), lr=ETA, alpha=1.0)
    assert_near(found, argmin(lambda n: -(n * torch.outer(u, x)).sum() + (n - m).square().sum() / (2 * ETA), m), FOUND)
    assert_near(found, argmin(lambda n: -(n @ x) @ u + (n - m).square().sum() / (2 * ETA), m), FOUND)


@pytest.mark.equation("nested_learning", 33)
@pytest.mark.equation("nested_learning", 35)
@pytest.mark.equation("nested_learning", 100)
def test_momentum_is_that_of_torch() -> None:
    a, b, w, m = start(), start(), numbers(OUT, IN), torch.zeros(OUT, IN, dtype=torch.float64)
    for gradient in stream():
        m = ALPHA * m - ETA * gradient
        w = w + m
    assert_near(walk(Momentum([a], lr=ETA, alpha=ALPHA), a, stream()), w)
    assert_near(walk(torch.optim.SGD([b], lr=ETA, momentum=ALPHA), b, stream()), w)


@pytest.mark.equation("nested_learning", 34)
def test_decay_is_a_penalty_on_the_memory() -> None:
    """A step on <m x, delta> + (1 - alpha) / (2 eta) |m|^2."""
    m, surprised, x = numbers(OUT, IN).requires_grad_(), numbers(OUT, seed=1), numbers(IN, seed=2)
    (slope,) = torch.autograd.grad((m @ x) @ surprised + (1 - ALPHA) / (2 * ETA) * m.square().sum(), m)
    assert_near(one(Momentum, m.detach(), torch.outer(surprised, x), lr=ETA, alpha=ALPHA), m.detach() - ETA * slope)


@pytest.mark.equation("nested_learning", 36)
def test_the_entry_of_the_number_without_a_formula_says_so() -> None:
    found = [(entry.formula, entry.slip) for entry in entries() if (entry.paper, entry.number) == ("nested_learning", 36)]
    assert found == [(r"\text{no formula}", "The number stands on an empty line.")]


@pytest.mark.equation("nested_learning", 37)
def test_an_objective_of_its_own_moves_the_memory() -> None:
    """A step on L(m; x, -delta): the inner product makes momentum, the squared error the delta rule, here for a surprise of one."""
    m, x = numbers(1, IN).requires_grad_(), numbers(IN, seed=1)
    (slope,) = torch.autograd.grad(-(m @ x * -1.0).sum(), m)
    assert_near(one(Momentum, m.detach(), x.unsqueeze(0), lr=ETA, alpha=1.0), m.detach() - ETA * slope)
    (slope,) = torch.autograd.grad((m @ x - -1.0).square().sum() / 2, m)
    assert_near(one(DeltaMomentum, m.detach(), x.unsqueeze(0), lr=ETA, alpha=1.0), m.detach() - ETA * slope)


@pytest.mark.equation("nested_learning", 45)
def test_a_momentum_forgets_what_is_orthogonal_to_what_comes() -> None:
    """Tasks with orthogonal gradients: after n steps on another one a momentum has alpha^n of the old, and a delta momentum without decay all of it."""
    axes = torch.linalg.qr(numbers(6, 2)).Q.T
    share, n = numbers(40, 1, seed=1), 40

    def left(kind: type[AbstractOptimizer], **options: Any) -> float:
        (weight,) = torch.zeros(1, 1, 6, dtype=torch.float64)
        state = {"momentum": 2.0 * axes[:1]}
        for i in range(n):
            weight, state = kind.advance(weight, share[i] * axes[1:], state, kind.options(lr=0.1, **options))
        return float(state["momentum"][0] @ axes[0])

    assert left(Momentum, alpha=0.9) == pytest.approx(2 * 0.9**n, rel=1e-9)
    assert left(DeltaMomentum, alpha=1.0) == pytest.approx(2.0, rel=1e-9)
    assert left(DeltaMomentum, alpha=1.0, granularity="scalar") < 1.0


@pytest.mark.equation("nested_learning", 46)
@pytest.mark.equation("nested_learning", 47)
def test_a_value_is_bound_to_a_gradient() -> None:
    """A step on <m G^T, P> = <m, P G>, with decay; without a value it is momentum."""
    m, g, p = numbers(OUT, IN).requires_grad_(), numbers(OUT, IN, seed=1), numbers(OUT, OUT, seed=2)
    (slope,) = torch.autograd.grad(((m @ g.T) * p).sum(), m)
    memory, value = m.detach(), p
    assert_near(slope, torch.autograd.grad((m * (p @ g)).sum(), m)[0])
    found = one(PreconditionedMomentum, memory, g, lr=ETA, alpha=ALPHA, precondition=lambda gradient: value @ gradient)
    assert_near(found, ALPHA * memory - ETA * slope)
    plain = one(PreconditionedMomentum, memory, g, lr=ETA, alpha=ALPHA, precondition=lambda gradient: gradient)
    assert_near(plain, ALPHA * memory - ETA * g)


@pytest.mark.equation("nested_learning", 47)
def test_with_a_second_moment_it_is_rmsprop() -> None:
    a, b = start(), start()
    found = walk(PreconditionedMomentum([a], lr=ETA, alpha=ALPHA, beta=0.7), a, stream())
    assert_near(found, walk(torch.optim.RMSprop([b], lr=ETA, momentum=ALPHA, alpha=0.7), b, stream()))


@pytest.mark.equation("nested_learning", 48)
@pytest.mark.equation("nested_learning", 49)
def test_delta_momentum_descends_the_squared_error() -> None:
    m, g, p = numbers(OUT, IN).requires_grad_(), numbers(OUT, IN, seed=1), numbers(OUT, OUT, seed=2)
    memory = m.detach()
    (slope,) = torch.autograd.grad((m @ g.T + p).square().sum() / 2, m)
    found = one(DeltaMomentum, memory, g, lr=ETA, alpha=1.0, precondition=lambda gradient: p @ gradient)
    assert_near(found, memory - ETA * slope)
    decayed = one(DeltaMomentum, memory, g, lr=ETA, alpha=ALPHA, precondition=lambda gradient: p @ gradient)
    assert_near(decayed, memory @ (ALPHA * EYE - ETA * g.T @ g) - ETA * p @ g)
    literal = one(DeltaMomentum, memory, g, lr=ETA, alpha=ALPHA, decay_lr=1.0, precondition=lambda gradient: p @ gradient)
    assert_near(literal, memory @ (ALPHA * EYE - g.T @ g) - ETA * p @ g)


@pytest.mark.equation("nested_learning", 49)
def test_decay_may_be_elementwise_or_of_the_whole_and_gradients_bounded() -> None:
    memory, g = numbers(OUT, IN), numbers(OUT, IN, seed=1)
    assert_near(one(DeltaMomentum, memory, g, lr=ETA, alpha=ALPHA, granularity="elementwise"), memory * (ALPHA - ETA * g**2) - ETA * g)
    whole = one(DeltaMomentum, memory, g, lr=ETA, alpha=ALPHA, granularity="scalar")
    assert_near(whole, memory * (ALPHA - ETA * (g**2).sum()) - ETA * g)
    small = g / g.square().sum().sqrt()
    assert_near(one(DeltaMomentum, memory, g, lr=ETA, alpha=ALPHA, limit=1.0), memory @ (ALPHA * EYE - ETA * small.T @ small) - ETA * small)
    assert_near(one(DeltaMomentum, memory, small / 2, limit=1.0), one(DeltaMomentum, memory, small / 2))
    with_bound, without = start(), start()
    gradients = [100 * gradient for gradient in stream(40)]
    assert float(walk(DeltaMomentum([with_bound], lr=0.1, decay_lr=1.0, limit=1.0), with_bound, gradients).abs().max()) < 10
    assert not float(walk(DeltaMomentum([without], lr=0.1, decay_lr=1.0), without, gradients).abs().max()) < 1e10


class Constant(DeepMomentum):
    """A memory that says the same to every gradient."""

    @classmethod
    def memory(cls, weight: Tensor, options: Mapping[str, Any], lead: int) -> dict[str, Tensor]:
        return {"b": torch.zeros_like(weight).reshape(-1, weight.shape[-1])}

    @classmethod
    def read(cls, memory: Mapping[str, Tensor], u: Tensor, options: Mapping[str, Any]) -> Tensor:
        return memory["b"].expand_as(u)

    @classmethod
    def size(cls, u: Tensor) -> Tensor:
        return torch.ones(1, 1, dtype=u.dtype)


class Scale(Constant):
    """A number for each of a gradient's."""

    @classmethod
    def read(cls, memory: Mapping[str, Tensor], u: Tensor, options: Mapping[str, Any]) -> Tensor:
        return memory["b"] * u


@pytest.mark.equation("nested_learning", 37)
@pytest.mark.equation("nested_learning", 50)
def test_a_deep_momentum_is_a_network_that_learns_from_each_gradient() -> None:
    """The network and its inner gradient, written out: m(u) = s (A tanh(B u / s) / sqrt(h) - u / s), objective the mean over rows of <m(u), u> / s^2."""
    weight, h, rate = numbers(OUT, IN), 4, 0.7
    options = DeepMomentum.options(lr=ETA, alpha=ALPHA, memory_lr=rate, hidden=h)
    state = DeepMomentum.begin(weight, options)
    b0, a, db = state["start_in"], torch.zeros(IN, h, dtype=torch.float64), torch.zeros(h, IN, dtype=torch.float64)
    assert not state["start_out"].any()
    assert 0.5 < float(b0.std()) < 1.5
    by_hand, at_first = weight, None
    for gradient in stream():
        s = (gradient.square().sum() / OUT).sqrt()
        u = gradient / s
        hidden = torch.tanh(u @ (b0 + db).T)
        slope_b = ((u @ a) * (1 - hidden**2)).T @ u / h**0.5 / OUT
        slope_a = u.T @ hidden / h**0.5 / OUT
        a, db = ALPHA * a - rate * slope_a, ALPHA * db - rate * slope_b
        by_hand = by_hand + ETA * s * (torch.tanh(u @ (b0 + db).T) @ a.T / h**0.5 - u)
        weight, state = DeepMomentum.advance(weight, gradient, state, options)
        at_first = by_hand if at_first is None else at_first
        assert_near(weight, by_hand)
        assert_near(state["learnt_out"], a)
        assert_near(state["learnt_in"], db)
    assert bool(db.abs().max() > 1e-2)
    assert bool(a.abs().max() > 1e-2)


@pytest.mark.equation("nested_learning", 50)
@pytest.mark.parametrize(("objective", "residual"), [("l2", False), ("sum", False), ("sum", True), ("dot", False)])
def test_the_inner_gradient_is_that_of_the_inner_objective(objective: str, residual: bool) -> None:
    """By finite differences of the objective, with the network written out."""
    options = DeepMomentum.options(alpha=1.0, memory_lr=1.0, hidden=4, objective=objective, residual=residual)
    weight, (first, second) = numbers(OUT, IN), stream(2)
    weight, state = DeepMomentum.advance(weight, first, DeepMomentum.begin(weight, options), options)
    _, after = DeepMomentum.advance(weight, second, state, options)
    u = second / (second.square().sum() / OUT).sqrt()

    def inner(b: Tensor, a: Tensor) -> Tensor:
        said = torch.tanh(u @ (state["start_in"] + b).T) @ a.T / 2 - (u if residual else 0)
        return {"l2": (said + u) ** 2 / 2, "sum": said, "dot": said * u}[objective].sum() / OUT

    for name, place in (("learnt_in", 0), ("learnt_out", 1)):
        here = [state["learnt_in"], state["learnt_out"]]
        slope = torch.zeros_like(here[place])
        for i in range(slope.numel()):
            nudge = torch.zeros_like(slope)
            nudge.view(-1)[i] = 1e-5
            up, down = (inner(*(w + sign * nudge if j == place else w for j, w in enumerate(here))) for sign in (1, -1))
            slope.view(-1)[i] = (up - down) / 2e-5
        assert_near(after[name], here[place] - slope, {torch.float64: 1e-8}, name)


@pytest.mark.equation("nested_learning", 50)
def test_memories_that_say_little_are_momentum() -> None:
    """m(u) = b with <m(u), u> is momentum; m(u) = theta u with <m(u), 1> is theta <- alpha theta - eta u."""
    options: dict[str, Any] = {"lr": 1.0, "memory_lr": ETA, "alpha": ALPHA}
    a, b, c = start(IN), start(IN), start(IN)
    gradients = stream(5, IN)
    assert_near(walk(Constant([a], **options), a, gradients), walk(Momentum([b], lr=ETA, alpha=ALPHA), b, gradients))
    theta, w = torch.zeros(IN, dtype=torch.float64), numbers(IN)
    for gradient in gradients:
        theta = ALPHA * theta - ETA * gradient
        w = w + theta * gradient
    assert_near(walk(Scale([c], objective="sum", **options), c, gradients), w)


@pytest.mark.equation("nested_learning", 51)
def test_features_of_a_gradient_are_remembered() -> None:
    memory, g, p = numbers(OUT, IN), numbers(OUT, IN, seed=1), numbers(OUT, OUT, seed=2)
    found = one(FeatureMapMomentum, memory, g, lr=ETA, alpha=ALPHA, power=0.3, precondition=lambda features: p @ features)
    assert_near(found, ALPHA * memory - ETA * p @ (g.sign() * g.abs() ** 0.3))
    other = one(FeatureMapMomentum, memory, g, lr=ETA, alpha=ALPHA, features=torch.sin, precondition=lambda features: p @ features)
    assert_near(other, ALPHA * memory - ETA * p @ g.sin())
    assert_near(one(FeatureMapMomentum, memory, g, lr=ETA, alpha=ALPHA, power=1.0), ALPHA * memory - ETA * g)


@pytest.mark.equation("nested_learning", 52)
def test_what_a_memory_says_may_be_made_orthogonal_or_a_sign() -> None:
    """With the memory that says the same to all: Muon's direction, and that of signs."""
    for output, outcome in (("newton_schulz", newton_schulz), ("sign", torch.sign), ("identity", lambda m: m)):
        weight, m = numbers(OUT, IN), torch.zeros(OUT, IN, dtype=torch.float64)
        options = Constant.options(lr=0.3, memory_lr=ETA, alpha=ALPHA, output=output)
        state = Constant.begin(weight, options)
        for gradient in stream():
            m = ALPHA * m - ETA * gradient / OUT
            expected = weight + 0.3 * outcome(m)
            weight, state = Constant.advance(weight, gradient, state, options)
            assert_near(weight, expected)


@pytest.mark.equation("nested_learning", 53)
def test_the_delta_rule_needs_fewer_steps_in_a_curved_valley() -> None:
    """psi(r, theta) = r^2 + k (r - theta + a sin(w r))^2 from (-3.5, 2): steps until it is below 0.01 for good, at large rates and with a slight rule.

    At rates below these, and with a rule three times as strong, momentum is as quick or quicker.
    """
    k, a, w = 5.0, 0.5, 3.0

    def steps(kind: type[AbstractOptimizer], lr: float, **options: Any) -> int:
        weight, last = torch.tensor([-3.5, 2.0], dtype=torch.float64), 0
        given = kind.options(lr=lr, alpha=0.9, **options)
        state = kind.begin(weight, given)
        for i in range(150):
            r, theta = weight
            s = r - theta + a * torch.sin(w * r)
            last = last if float(r**2 + k * s**2) < 0.01 else i + 1
            gradient = torch.stack([2 * r + 2 * k * s * (1 + a * w * torch.cos(w * r)), -2 * k * s])
            weight, state = kind.advance(weight, gradient, state, given)
        return last

    for lr in (0.01, 0.013, 0.016, 0.02):
        assert 0 < steps(DeltaMomentum, lr, decay_lr=0.0003, granularity="scalar") < steps(Momentum, lr) < 150
