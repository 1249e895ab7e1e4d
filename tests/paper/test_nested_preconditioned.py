"""Nested Learning, sections 4.3 and 7.2 and appendix B: maps of gradients, Muon and M3, and Adam as the best memory of its kind."""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from retain.numerics import inverse_root, newton_schulz
from retain.optim import M3, AdamAsMemory, LearnedPreconditioner, MatrixAdaGrad, Muon, NewtonSchulz, SlowMomentum
from tests.paper.argmin import FOUND, argmin
from tests.paper.test_nested_momentum import numbers, start, stream, walk
from tests.tolerances import VALUES, assert_near

ETA = 0.1


def inverse_root_by_hand(x: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(x)
    return vectors @ torch.diag(values**-0.5) @ vectors.T


def polar(x: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    return u @ vh


def quintic(x: Tensor) -> Tensor:
    """Five steps of the quintic iteration on a matrix of no more rows than columns."""
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


# ---- (38) to (41)


@pytest.mark.equation("nested_learning", 38)
@pytest.mark.equation("nested_learning", 39)
def test_the_hessian_solves_a_quadratic_in_one_step() -> None:
    root, weight, goal = numbers(4, 4), numbers(4, 3, seed=1), numbers(4, 3, seed=2)
    hessian = root @ root.T + torch.eye(4, dtype=torch.float64)
    options = LearnedPreconditioner.options(lr=1.0, rate=0.0, structure="matrix", eps=0.0)
    after, _ = LearnedPreconditioner.advance(weight, hessian @ (weight - goal), {"preconditioner": hessian}, options)
    assert_near(after, goal)
    diagonal = hessian.diagonal().unsqueeze(1).expand(4, 3)
    options = LearnedPreconditioner.options(lr=1.0, rate=0.0, eps=0.0)
    after, _ = LearnedPreconditioner.advance(weight, diagonal * (weight - goal), {"preconditioner": diagonal}, options)
    assert_near(after, goal)


@pytest.mark.equation("nested_learning", 40)
@pytest.mark.equation("nested_learning", 41)
def test_a_preconditioner_descends_its_own_loss() -> None:
    """P_(t+1) = P_t - zeta dL, L = |P(g^) - g|^2 / 2; it comes to the map from coordinates to gradients, and its inverse takes a gradient to its coordinates."""
    zeta, truth = 0.1, torch.eye(3, dtype=torch.float64) + 0.2 * numbers(3, 3)
    for structure in ("matrix", "diagonal"):
        kind: Any = structure
        options = LearnedPreconditioner.options(lr=1.0, rate=zeta, structure=kind, coordinates=torch.sin, eps=0.0)
        weight, g = numbers(3, 4), numbers(3, 4, seed=1)
        state = LearnedPreconditioner.begin(weight, options)
        p = (torch.eye(3, dtype=torch.float64) if structure == "matrix" else torch.ones(3, 4, dtype=torch.float64)).requires_grad_()
        said = p @ g.sin() if structure == "matrix" else p * g.sin()
        (slope,) = torch.autograd.grad((said - g).square().sum() / 2, p)
        after, state = LearnedPreconditioner.advance(weight, g, state, options)
        p = p.detach() - zeta * slope
        assert_near(state["preconditioner"], p)
        assert_near(after, weight - (torch.linalg.inv(p) @ g if structure == "matrix" else g / p))

    inverse = torch.linalg.inv(truth)
    options = LearnedPreconditioner.options(lr=1.0, rate=0.1, structure="matrix", coordinates=lambda g: inverse @ g, eps=0.0)
    state = {"preconditioner": torch.eye(3, dtype=torch.float64)}
    for i in range(200):
        target = numbers(3, 4, seed=i)
        after, state = LearnedPreconditioner.advance(torch.zeros(3, 4, dtype=torch.float64), truth @ target, state, options)
    assert_near(state["preconditioner"], truth, FOUND)
    assert_near(after, -target, FOUND)


@pytest.mark.equation("nested_learning", 40)
def test_by_themselves_preconditioners_learn_sizes() -> None:
    """The average of |g|, and that of (G G^T)^(1/2)."""
    gradients = stream(4, 3, 6)
    for structure, size in (("diagonal", torch.abs), ("matrix", lambda g: polar(g) @ g.T)):
        kind: Any = structure
        options = LearnedPreconditioner.options(rate=0.3, structure=kind)
        state = LearnedPreconditioner.begin(numbers(3, 6), options)
        p = state["preconditioner"]
        for g in gradients:
            _, state = LearnedPreconditioner.advance(numbers(3, 6), g, state, options)
            p = 0.7 * p + 0.3 * size(g)
        assert_near(state["preconditioner"], p, {torch.float64: 1e-3})


# ---- (42) to (44)


@pytest.mark.equation("nested_learning", 42)
def test_muon_is_momentum_made_orthogonal() -> None:
    """W + lr NS(m) with m = alpha m - eta G: an average of gradients has the same direction."""
    weight, m = start(3, 5), torch.zeros(3, 5, dtype=torch.float64)
    by_hand = weight.data.clone()
    for g in stream(4, 3, 5):
        m = 0.8 * m - 0.3 * g
        by_hand = by_hand + ETA * quintic(m)
    assert_near(walk(Muon([weight], lr=ETA, alpha=0.8), weight, stream(4, 3, 5)), by_hand)


@pytest.mark.equation("nested_learning", 42)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(8, 6), (6, 8)])
def test_muon_is_that_of_torch(shape: tuple[int, int], scale: Literal["original", "match_rms_adamw"], nesterov: bool) -> None:
    """Whose products are in bfloat16; its buffer is the same average."""
    b = nn.Parameter(numbers(*shape).float())
    gradients = [g.float() for g in stream(4, *shape)]
    theirs = torch.optim.Muon([b], lr=ETA, weight_decay=0.1, momentum=0.9, nesterov=nesterov, adjust_lr_fn=scale)
    walk(theirs, b, gradients)
    for precision, near in (("bfloat16", 2e-3), ("weight", 6e-3)):
        p = nn.Parameter(numbers(*shape).float())
        how = NewtonSchulz(scale=scale, precision=precision)
        ours = Muon([p], lr=ETA, weight_decay=0.1, alpha=0.9, nesterov=nesterov, orthogonal=how)
        assert_near(walk(ours, p, gradients), b.data, {torch.float32: near})
        assert_near(ours.state[p]["momentum"], theirs.state[b]["momentum_buffer"], VALUES)


@pytest.mark.equation("nested_learning", 43)
@pytest.mark.equation("nested_learning", 44)
def test_newton_and_schulz_descend_the_distance_to_an_orthogonal_matrix() -> None:
    """(44) is a step on |O - g|^2 / 2 + |O^T O - I|^2 / 2; from O = g and with a quarter for a rate it is one cubic step."""
    g, o = numbers(6, 4), numbers(6, 4, seed=1).requires_grad_()
    eye = torch.eye(4, dtype=torch.float64)
    (slope,) = torch.autograd.grad((o - g).square().sum() / 2 + (o.T @ o - eye).square().sum() / 2, o)
    assert_near(slope, (o - g + 2 * o @ (o.T @ o - eye)).detach())
    x = (g / g.norm()).requires_grad_()
    (slope,) = torch.autograd.grad((x.T @ x - eye).square().sum() / 2, x)
    assert_near(newton_schulz(g, 1, "cubic"), (x - slope / 4).detach())
    assert_near(newton_schulz(g, 60, "cubic"), polar(g))
    assert_near(newton_schulz(3.7 * g), newton_schulz(g))


@pytest.mark.equation("nested_learning", 43)
@pytest.mark.parametrize("kind", ["quintic", "cubic"])
@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_as_many_steps_are_taken_as_small_singular_values_need(kind: Literal["quintic", "cubic"], shape: tuple[int, int]) -> None:
    """A hundredth of the largest comes up, too; three cubic steps leave it below a tenth."""
    u, _, vh = torch.linalg.svd(numbers(*shape), full_matrices=False)
    x = u @ torch.diag(torch.logspace(0, -2, 16 if 16 in shape else 32, dtype=torch.float64)) @ vh
    p = nn.Parameter(torch.zeros(*shape, dtype=torch.float64))
    walk(Muon([p], lr=1.0, alpha=0.0, orthogonal=NewtonSchulz(kind, scale="none")), p, [x])
    values = torch.linalg.svdvals(p.data)
    low, high = (0.6, 1.3) if kind == "quintic" else (0.6, 1.0 + 1e-9)
    assert low < float(values.min())
    assert float(values.max()) < high
    assert float(torch.linalg.svdvals(newton_schulz(x, 3, "cubic")).min()) < 0.1


# ---- (75) and Algorithm 1


def algorithm_1(weight: Tensor, gradients: list[Tensor], betas: tuple[float, float, float], alpha: float, f: int) -> Tensor:
    """Line by line, the slow sum over f gradients."""
    zero = torch.zeros_like(weight)
    m1, m2, v, o2 = zero, zero, zero, zero
    for k in range(len(gradients) // f):
        if k:
            m2 = m2 + betas[2] * torch.stack(gradients[(k - 1) * f : k * f]).sum(0)
            o2 = quintic(m2)
        for g in gradients[k * f : (k + 1) * f]:
            m1 = m1 + betas[0] * g
            v = v + betas[1] * g**2
            weight = weight - ETA * (quintic(m1) + alpha * o2) / (v.sqrt() + 1e-8)
    return weight


def literal(gradients: list[Tensor], betas: tuple[float, float, float] = (0.9, 0.99, 0.5), alpha: float = 0.7, lr: float = ETA) -> Tensor:
    p = start(3, 5)
    slow = SlowMomentum(alpha, 4, betas[2])
    return walk(M3([p], lr=lr, betas=betas[:2], slow=slow, accumulate="sum"), p, gradients)


@pytest.mark.equation("nested_learning", 75)
def test_m3_is_algorithm_1() -> None:
    gradients = stream(12, 3, 5)
    found = literal(gradients)
    assert_near(found, algorithm_1(numbers(3, 5), gradients, (0.9, 0.99, 0.5), 0.7, 4))
    assert_near(literal(gradients, betas=(0.1, 0.99, 0.03)), found)
    assert_near(literal(gradients, betas=(0.9, 0.99 / 4, 0.5), lr=ETA / 2), found, {torch.float64: 1e-6})
    assert_near(literal(gradients[:4], alpha=0.0), literal(gradients[:4]))
    assert float((literal(gradients[:5], alpha=0.0) - literal(gradients[:5])).abs().max()) > 1e-3


@pytest.mark.equation("nested_learning", 75)
@pytest.mark.parametrize("scale", ["norm", "none"])
def test_the_averages_of_m3(scale: Literal["norm", "none"]) -> None:
    """M <- beta M + (1 - beta) g, V likewise, corrected for their start; what is made orthogonal gets its norm back, or not."""

    def along(m: Tensor) -> Tensor:
        o = quintic(m)
        return o * m.norm() / o.norm() if scale == "norm" else o

    weight = numbers(3, 5)
    m1 = m2 = v = o2 = torch.zeros(3, 5, dtype=torch.float64)
    gradients, p = stream(10, 3, 5), start(3, 5)
    for t, g in enumerate(gradients, 1):
        m1, v = 0.9 * m1 + 0.1 * g, 0.95 * v + 0.05 * g**2
        step = (along(m1 / (1 - 0.9**t)) + 0.7 * o2) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        weight = 0.999 * weight - ETA * step
        if t % 3 == 0:
            m2 = 0.8 * m2 + 0.2 * torch.stack(gradients[t - 3 : t]).mean(0)
            o2 = along(m2 / (1 - 0.8 ** (t // 3)))
    optimizer = M3([p], lr=ETA, betas=(0.9, 0.95), slow=SlowMomentum(0.7, 3, 0.8), orthogonal=NewtonSchulz(scale=scale), weight_decay=0.001 / ETA)
    assert_near(walk(optimizer, p, gradients), weight)


@pytest.mark.equation("nested_learning", 75)
def test_without_its_slow_memory_and_newton_schulz_m3_is_adam() -> None:
    a, b, c, d = start(3, 5), start(3, 5), start(4), start(4)
    slow = SlowMomentum(alpha=0.0)
    theirs = torch.optim.Adam([b], lr=ETA, betas=(0.8, 0.95))
    assert_near(walk(M3([a], lr=ETA, betas=(0.8, 0.95), slow=slow, orthogonal=None), a, stream(25, 3, 5)), walk(theirs, b, stream(25, 3, 5)))
    found = walk(M3([c], lr=ETA, betas=(0.8, 0.95), slow=slow), c, stream(25, 4))
    assert_near(found, walk(torch.optim.Adam([d], lr=ETA, betas=(0.8, 0.95)), d, stream(25, 4)))


@pytest.mark.equation("nested_learning", 75)
def test_the_momentum_of_m3_fades_and_only_sums_do_not() -> None:
    for accumulate, left in (("ema", 0.9**49 * 0.1), ("sum", 0.9)):
        p, reading = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64)), accumulate
        optimizer = M3([p], accumulate=reading)
        walk(optimizer, p, [torch.ones(1, 1, dtype=torch.float64)] + 49 * [torch.zeros(1, 1, dtype=torch.float64)])
        assert_near(optimizer.state[p]["fast"], torch.full((1, 1), left, dtype=torch.float64))


# ---- (101) to (105)


@pytest.mark.equation("nested_learning", 101)
@pytest.mark.equation("nested_learning", 102)
@pytest.mark.equation("nested_learning", 103)
@pytest.mark.equation("nested_learning", 104)
def test_adam_is_the_best_elementwise_memory_of_gradients() -> None:
    """The minimiser of sum |m g_i - P|^2 + lambda |m|^2, for P the sum of squares and its root; the step goes against it."""
    gradients, lam = stream(9, 7), 0.3
    both = torch.stack(gradients)
    for target, p in (("root", both.square().sum(0).sqrt()), ("squares", both.square().sum(0))):
        best = argmin(lambda m, p=p: (m * both - p).square().sum() + lam * m.square().sum(), torch.zeros(7, dtype=torch.float64))
        weight, kind = nn.Parameter(torch.zeros(7, dtype=torch.float64)), target
        optimizer = AdamAsMemory([weight], lr=ETA, betas=(1.0, 1.0), eps=0.0, ridge=lam, momentum="sum", squares="sum", target=kind)
        walk(optimizer, weight, gradients[:-1])
        before = weight.data.clone()
        assert_near((before - walk(optimizer, weight, gradients[-1:])) / ETA, best, FOUND)


@pytest.mark.equation("nested_learning", 102)
@pytest.mark.equation("nested_learning", 104)
@pytest.mark.equation("nested_learning", 105)
def test_the_literal_sums_of_adam() -> None:
    """- eta / beta_2 M~ for the sum of squares, - eta / sqrt(beta_2) M~ / (sqrt(H) + eps) for its root, from M~ = beta_1 sum g, H = beta_2 sum g^2."""
    b1, b2, eps = 0.6, 0.3, 0.05
    a, b, c = start(7), start(7), start(7)
    w = {"squares": numbers(7), "root": numbers(7)}
    m = h = torch.zeros(7, dtype=torch.float64)
    for g in stream(5, 7):
        m, h = m + b1 * g, h + b2 * g**2
        w = {"squares": w["squares"] - ETA / b2 * m, "root": w["root"] - ETA / sqrt(b2) * m / (h.sqrt() + eps)}
    for p, target in ((a, "squares"), (b, "root")):
        kind: Any = target
        ours = AdamAsMemory([p], lr=ETA, betas=(b1, b2), eps=eps, momentum="sum", squares="sum", target=kind)
        assert_near(walk(ours, p, stream(5, 7)), w[target])
    assert_near(walk(torch.optim.SGD([c], lr=ETA * b1 / b2, momentum=1.0), c, stream(5, 7)), w["squares"])


@pytest.mark.equation("nested_learning", 105)
def test_adam_adagrad_rmsprop_and_signs_are_in_it() -> None:
    gradients = stream(9, 3, 4)

    def near(theirs: type[torch.optim.Optimizer], said: dict[str, Any], ours: dict[str, Any], steps: int = 9) -> None:
        a, b = start(3, 4), start(3, 4)
        assert_near(walk(AdamAsMemory([a], lr=ETA, **ours), a, gradients[:steps]), walk(theirs([b], lr=ETA, **said), b, gradients[:steps]))  # pyright: ignore[reportCallIssue]

    near(torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3}, {"betas": (0.8, 0.95), "eps": 1e-3})
    near(torch.optim.Adagrad, {"eps": 1e-10}, {"betas": (0.0, 1.0), "squares": "sum", "eps": 1e-10})
    near(torch.optim.RMSprop, {"alpha": 0.7}, {"betas": (0.0, 0.7), "squares": "ema"})
    near(torch.optim.SGD, {}, {"betas": (0.0, 0.9), "target": "squares"})
    p = start(3, 4)
    assert_near(walk(AdamAsMemory([p], lr=ETA), p, gradients[:1]), numbers(3, 4) - ETA * gradients[0].sign(), {torch.float64: 1e-6})


# ---- (106) to (111)


@pytest.mark.equation("nested_learning", 106)
@pytest.mark.equation("nested_learning", 107)
@pytest.mark.equation("nested_learning", 108)
@pytest.mark.equation("nested_learning", 109)
@pytest.mark.equation("nested_learning", 110)
def test_the_moments_of_matrix_adagrad_are_those_of_the_best_matrix_memory() -> None:
    """argmin sum |m G_i - P|^2 + lambda |m|^2 = P M~^T (H + lambda)^-1, with M~ the sum of G and H that of G G^T. Vectors stand as columns."""
    gradients, p, lam = stream(6, 4, 3), numbers(4, 3), 0.3
    weight = start(4, 3)
    optimizer = MatrixAdaGrad([weight], betas=(1.0, 1.0), momentum="sum", squares="sum")
    walk(optimizer, weight, gradients)
    m, h = optimizer.state[weight]["momentum"], optimizer.state[weight]["squares"]
    best = argmin(lambda n: sum(((n @ g - p).square().sum() for g in gradients), torch.zeros(())) + lam * n.square().sum(), numbers(4, 4))
    assert_near(p @ m.T @ torch.linalg.inv(h + lam * torch.eye(4, dtype=torch.float64)), best, FOUND)
    assert_near(h.diagonal(), torch.stack(gradients).square().sum((0, 2)))
    scaled = start(4, 3)
    optimizer = MatrixAdaGrad([scaled], betas=(0.4, 0.7), momentum="sum", squares="sum")
    walk(optimizer, scaled, gradients)
    assert_near(optimizer.state[scaled]["momentum"], 0.4 * m)
    assert_near(optimizer.state[scaled]["squares"], 0.7 * h)


@pytest.mark.equation("nested_learning", 111)
def test_matrix_adagrad_divides_by_the_root_of_its_moment() -> None:
    b1, b2, weight, by_hand = 0.4, 0.7, start(3, 5), numbers(3, 5)
    m, h = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for g in stream(4, 3, 5):
        m, h = m + b1 * g, h + b2 * g @ g.T
        by_hand = by_hand - ETA / sqrt(b2) * inverse_root_by_hand(h) @ m
    ours = MatrixAdaGrad([weight], lr=ETA, betas=(b1, b2), eps=0.0, momentum="sum", squares="sum")
    assert_near(walk(ours, weight, stream(4, 3, 5)), by_hand)


@pytest.mark.equation("nested_learning", 111)
def test_diagonal_gradients_make_matrix_adagrad_adagrad() -> None:
    a, b = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64)), nn.Parameter(torch.zeros(4, dtype=torch.float64))
    gradients = stream(5, 4)
    walk(MatrixAdaGrad([a], lr=ETA, eps=1e-10), a, [torch.diag(g) for g in gradients])
    walk(torch.optim.Adagrad([b], lr=ETA, eps=1e-10), b, gradients)
    assert_near(a.data, torch.diag(b.data))
    alone, g = nn.Parameter(torch.zeros(4, dtype=torch.float64)), gradients[0]
    assert_near(walk(MatrixAdaGrad([alone], lr=ETA), alone, [g]), -ETA * g / g.norm(), {torch.float64: 1e-7})


@pytest.mark.equation("nested_learning", 111)
def test_an_inverse_root_has_the_gradient_of_its_formula() -> None:
    """Also where eigenvalues are equal, and where some are zero, which count for nothing."""
    x = numbers(3, 3)
    x = (x @ x.T + torch.eye(3, dtype=torch.float64)).requires_grad_()
    assert_near(inverse_root(x).detach() @ x.detach() @ inverse_root(x).detach(), torch.eye(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda y: inverse_root((y + y.T) / 2, 0.1), x)
    equal = torch.eye(3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: inverse_root((y + y.T) / 2, 0.1), equal)
    thin = numbers(4, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: inverse_root(y @ y.T, 0.1), thin)
    for kind in (torch.float32, torch.float64):
        found = inverse_root((thin @ thin.T).detach().to(kind), 1e-8)
        assert_near(
            found.double(), torch.linalg.pinv(thin.detach() @ inverse_root((thin.T @ thin).detach(), -0.0) @ thin.detach().T), {torch.float64: 1e-5}
        )
