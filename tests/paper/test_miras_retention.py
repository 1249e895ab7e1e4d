"""MIRAS section 5.2: each retention gate is the minimiser of the objective that it is derived from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from retain import retention
from retain.core.contracts import AbstractRetention
from retain.core.tokens import Step
from tests.tolerances import assert_near

SHAPE = (1, 3, 4)
Objective = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(total: float, seed: int) -> Tensor:
    return total * normal(*SHAPE, seed=seed).flatten().softmax(-1).view(SHAPE)


def step_of(gate: AbstractRetention, accumulator: Tensor, delta: Tensor, retain: float | None = None) -> tuple[Tensor, Tensor]:
    """The accumulator after a step, and the weights that it exposes."""
    given = Step(retain=None if retain is None else torch.full((1,), retain, dtype=torch.float64))
    after = gate.moved({"w": accumulator}, {"w": delta}, given, lead=1)
    return after["w"], gate.expose(after, lead=1)["w"]


def check_least(objective: Objective, found: Tensor, others: Callable[[Tensor], Tensor]) -> None:
    """No feasible neighbour of the weights, near or far, is better; and they are not the only ones that were tried."""
    least = objective(found)
    for seed in range(400):
        for size in (1e-3, 0.03, 1.0):
            other = others(found + size * normal(*SHAPE, seed=seed) * found.abs().mean())
            assert objective(other) >= least - 1e-12
            assert not torch.equal(other, found)


def unconstrained(w: Tensor) -> Tensor:
    return w


def onto_simplex(total: float) -> Callable[[Tensor], Tensor]:
    def project(w: Tensor) -> Tensor:
        positive = w.clamp(min=1e-9)
        return total * positive / positive.sum()

    return project


@pytest.mark.equation("miras", 18)
@pytest.mark.parametrize("total", [1.0, 2.5])
def test_a_divergence_step_is_least_on_the_simplex(total: float) -> None:
    before, g, rate = simplex(total, 0), normal(*SHAPE, seed=1), 0.8
    divergences: dict[str, Callable[[Tensor], Tensor]] = {"kl": lambda t: t * t.log(), "chi_square": lambda t: (t - 1).square()}
    for name, f in divergences.items():
        gate = retention.FDivergence(f=name, total=total)  # pyright: ignore[reportArgumentType]
        _, after = step_of(gate, before, -rate * g)
        assert_near(after.sum(), torch.tensor(total, dtype=torch.float64))
        assert (after >= 0).all()
        check_least(lambda w, f=f: (w * g).sum() + (before * f(w / before)).sum() / rate, after, onto_simplex(total))


@pytest.mark.equation("miras", 18)
def test_a_chi_square_step_may_empty_entries_and_leaves_them_empty() -> None:
    before, g = simplex(1.0, 0), 10 * normal(*SHAPE, seed=1)
    gate = retention.FDivergence()
    _, after = step_of(gate, before, -g)
    assert (after == 0).any()
    assert_near(after.sum(), torch.ones((), dtype=torch.float64))
    inside = after > 0
    multiplier = (g + 2 * (after / before - 1))[inside]  # the same wherever weights are left
    assert_near(multiplier, multiplier.mean().expand_as(multiplier))
    _, again = step_of(gate, after, normal(*SHAPE, seed=2))
    assert not again[~inside].any()


def test_the_multiplier_of_a_divergence_knows_what_it_hangs_on() -> None:
    gate = retention.FDivergence()
    before, delta = simplex(1.0, 0).requires_grad_(), (3 * normal(*SHAPE, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, d: step_of(gate, w, d)[1], (before, delta))


@pytest.mark.equation("miras", 19)
@pytest.mark.equation("miras", 20)
@pytest.mark.equation("miras", 21)
@pytest.mark.parametrize("total", [1.0, 2.5])
def test_the_softmax_step_is_least_among_shares(total: float) -> None:
    before, g, rate, alpha = simplex(total, 0), normal(*SHAPE, seed=1), 0.7, 1.9
    gate = retention.KL(total=total, over="all")
    both = 1 / alpha + 1 / rate
    _, after = step_of(gate, before.log(), -g / both, retain=1 - (1 / alpha) / both)
    assert_near(after.sum(), torch.tensor(total, dtype=torch.float64))
    check_least(lambda w: ((w - before) * g).sum() + (w * (w / before).log()).sum() / rate + (w * w.log()).sum() / alpha, after, onto_simplex(total))
    multiplier = g + both * (1 + after.log()) - before.log() / rate
    assert_near(multiplier, multiplier.mean().expand_as(multiplier))
    assert_near(step_of(gate, before.log(), 0 * g, retain=1.0)[1], before)
    assert_near(step_of(gate, before.log(), 0 * g, retain=0.0)[1], torch.full(SHAPE, total / 12, dtype=torch.float64))
    assert_near(step_of(gate, before.log() + 5, -(g + 3) / both, retain=0.4)[1], step_of(gate, before.log(), -g / both, retain=0.4)[1])


@pytest.mark.equation("miras", 21)
def test_slices_are_simplices_of_their_own() -> None:
    logs, delta = normal(*SHAPE), normal(*SHAPE, seed=1)
    _, after = step_of(retention.KL(total=2.0), logs, delta, retain=0.9)
    assert_near(after.sum(-1), torch.full((1, 3), 2.0, dtype=torch.float64))
    for row in range(3):
        assert_near(after[0, row], 2 * (0.9 * logs[0, row] + delta[0, row]).softmax(-1))


@pytest.mark.equation("miras", 22)
def test_the_elastic_net_forgets_softly_and_hard() -> None:
    before, g, rate, beta, alpha = normal(*SHAPE), normal(*SHAPE, seed=1), 0.6, 1.7, 2.2
    shrink = beta / (beta + rate)
    gate = retention.ElasticNet(threshold=rate * beta / (alpha * (rate + beta)))
    start = gate.start({"w": before}, lead=1)["w"]
    accumulator, after = step_of(gate, start, -rate * shrink * g, retain=shrink)
    check_least(
        lambda w: (w * g).sum() + (w - before).square().sum() / (2 * rate) + w.square().sum() / (2 * beta) + w.abs().sum() / alpha,
        after,
        unconstrained,
    )
    assert (after == 0).any()
    assert torch.equal(after == 0, accumulator.abs() <= gate.threshold)
    soft = retention.ElasticNet(threshold=1e-12)
    assert_near(step_of(soft, before, -g, retain=0.5)[1], 0.5 * before - g, {torch.float64: 1e-10})


@pytest.mark.equation("miras", 22)
def test_the_smooth_threshold_is_the_papers() -> None:
    x = torch.linspace(-50, 50, 201, dtype=torch.float64)
    smooth = retention.ElasticNet(threshold=0.8, kind="smooth").expose({"w": x[None]}, lead=1)["w"][0]
    assert_near(smooth, x.abs() * torch.arctan(x / 0.8) / (torch.pi / 2))
    assert_near(smooth[-1:], x[-1:] - 2 * 0.8 / torch.pi, {torch.float64: 1e-3})
    assert_near(smooth, -smooth.flip(0))


@pytest.mark.equation("miras", 23)
def test_the_elastic_leader_is_least_over_all_that_was_seen() -> None:
    rate, alpha, gs = 0.6, 2.2, [normal(*SHAPE, seed=seed) for seed in range(5)]
    gate = retention.ElasticNet(threshold=rate / alpha, view="leader")
    accumulator = after = torch.zeros(SHAPE, dtype=torch.float64)
    for g in gs:
        accumulator, after = step_of(gate, accumulator, -rate * g)
    total = torch.stack(gs).sum(0)
    check_least(lambda w: (w * total).sum() + w.square().sum() / (2 * rate) + w.abs().sum() / alpha, after, unconstrained)
    assert (after == 0).any()


@pytest.mark.equation("miras", "variant 4")
@pytest.mark.parametrize("q", [1.25, 1.5, 2.0])
def test_the_exact_link_of_a_q_norm_is_least(q: float) -> None:
    rate, gs = 0.6, [normal(*SHAPE, seed=seed) for seed in range(4)]
    gate = retention.Lq(q=q, link="exact", eps=1e-9)
    accumulator = after = torch.zeros(SHAPE, dtype=torch.float64)
    for g in gs:
        accumulator, after = step_of(gate, accumulator, -rate * g, retain=1.0)
    total = torch.stack(gs).sum(0)
    norm = torch.linalg.vector_norm
    check_least(lambda w: (w * total).sum() + norm(w.flatten(), ord=q) ** 2 / (2 * rate * (q - 1)), after, unconstrained)
    printed = step_of(retention.Lq(q=q, link="norm"), accumulator, 0 * after, retain=1.0)[1]
    if q == 2:
        assert_near(printed, after)
    else:
        assert torch.cosine_similarity(printed.flatten(), after.flatten(), dim=0) < 0.999


@pytest.mark.equation("miras", 24)
def test_the_printed_link_is_homogeneous_of_degree_three_less_q() -> None:
    a = normal(*SHAPE)
    for q in (2.0, 2.5, 3.0, 4.0):
        gate = retention.Lq(q=q)
        exposed, scaled = (gate.expose({"w": factor * a}, lead=1)["w"] for factor in (1.0, 3.0))
        assert_near(exposed, a / torch.linalg.vector_norm(a, ord=q) ** (q - 2))
        assert_near(scaled, 3.0 ** (3 - q) * exposed)
    begun = retention.Lq(q=4.0).start({"w": a}, lead=1)["w"]
    assert_near(torch.linalg.vector_norm(begun, ord=4), torch.ones((), dtype=torch.float64))
    assert_near(retention.Lq(q=4.0).expose({"w": begun}, lead=1)["w"], begun)
    assert retention.Lq(q=4.0).expose({"w": 0 * a}, lead=1)["w"].isfinite().all()


@pytest.mark.equation("miras", "variant 5")
def test_a_mirror_step_is_least_under_its_divergence() -> None:
    g, rate = normal(*SHAPE, seed=1), 0.7
    between, positive = torch.sigmoid(normal(*SHAPE)), normal(*SHAPE).exp()

    def logistic(w: Tensor) -> Tensor:
        return (w * w.log() + (1 - w) * (1 - w).log()).sum()

    def divergence(potential: Objective, w: Tensor, at: Tensor) -> Tensor:
        point = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(potential(point), point)
        return potential(w) - potential(at) - (slope * (w - at)).sum()

    cases: list[tuple[str, Tensor, Tensor, Objective, Callable[[Tensor], Tensor]]] = [
        ("square", normal(*SHAPE), normal(*SHAPE), lambda w: w.square().sum() / 2, unconstrained),
        ("entropy", positive, positive.log(), lambda w: (w * w.log() - w).sum(), lambda w: w.clamp(min=1e-9)),
        ("sigmoid", between, between.logit(), logistic, lambda w: w.clamp(1e-9, 1 - 1e-9)),
    ]
    for name, before, dual, potential, feasible in cases:
        gate = retention.Bregman(potential=name)  # pyright: ignore[reportArgumentType]
        assert_near(gate.expose({"w": dual}, lead=1)["w"], before)
        _, after = step_of(gate, dual, -rate * g)
        check_least(lambda w, p=potential, b=before: (w * g).sum() + divergence(p, w, b) / rate, after, feasible)
    assert_near(step_of(retention.Bregman(potential="entropy"), positive.log(), -rate * g)[1], positive * torch.exp(-rate * g))


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: retention.ElasticNet(threshold=0.0), r"must be positive, got 0.0. Use retention\.Decay"),
        (lambda: retention.Lq(q=1.0), "above 1"),
        (lambda: retention.Lq(q=3.0, link="exact"), "at most 2 for link='exact', got 3"),
        (lambda: retention.Lq(eps=0.0), "eps must be positive"),
        (lambda: retention.KL(total=0.0), "total must be positive"),
        (lambda: retention.FDivergence(total=-1.0), "total must be positive"),
    ],
)
def test_a_gate_that_cannot_be_is_refused(make: Callable[[], object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        make()
