"""MIRAS sections 2 to 5.2: the step of a memory and what it minimises, by every engine, against the formulas written out token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain import bias, presets, retention
from retain.core.contracts import AbstractBias, AbstractRetention
from retain.engines import select
from tests.by_hand import KEY, TIME, VALUE, agree, engines_of, kept_of, letters, outer, read, stream_of
from tests.streams import World, run
from tests.tolerances import assert_near

Map = Callable[[Tensor], Tensor]
SEARCHED = {torch.float64: 1e-6}


def least(objective: Map, start: Tensor) -> Tensor:
    """The minimiser of a smooth objective, found by search."""
    found = start.clone().requires_grad_()
    search = torch.optim.LBFGS([found], max_iter=200, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def again() -> Tensor:
        search.zero_grad()
        value = objective(found)
        value.backward()
        return value

    search.step(again)  # pyright: ignore[reportArgumentType]
    return found.detach()


def at_rate(here: World, lr: Tensor) -> World:
    return replace(here, tokens=replace(here.tokens, lr=lr))


def from_nothing(here: World) -> World:
    return replace(here, initial={name: torch.zeros_like(w) for name, w in here.initial.items()})


def agree_nearly(here: World, memory: Tensor) -> None:
    for engine in engines_of(here.rule):
        assert_near(run(here, [engine]).state.accumulator["w"], memory, SEARCHED, f"memory of {engine}")


# ---- sections 2 to 4


@pytest.mark.equation("miras", 3)
def test_a_linear_recurrence_whose_decay_is_diagonal() -> None:
    """M_t = A_t * M_{t-1} + k_t^T v_t, A_t a diagonal on the side of the keys."""
    rule = replace(presets.linear_attention(), retention=retention.ChannelDecay())
    here = stream_of(rule)
    here = at_rate(here, torch.ones_like(here.tokens.lr))
    assert here.tokens.retain is not None
    q, k, v, _, memory = letters(here)
    outputs = []
    for t in range(TIME):
        memory = torch.diag_embed(here.tokens.retain[:, t]) @ memory + outer(k[:, t], v[:, t])
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("miras", 4)
def test_a_memory_that_sees_its_pairs_again_and_again_becomes_the_best_one() -> None:
    """M* = argmin L(M(K); V): from nothing, the solution of least squares whose norm is least."""
    rule, rounds = presets.delta_net(), 400
    here = from_nothing(stream_of(rule))
    few = here.tokens.map(lambda x: x[:, :3])
    again = few.map(lambda x: torch.cat([x] * rounds, dim=1))
    here = replace(at_rate(replace(here, tokens=again), torch.ones_like(again.lr)), lengths=torch.full((2,), 3 * rounds))
    keys, values = (x[:, :, :, 0].transpose(1, 2) for x in (few.k, few.v))
    memory = run(here, [select(rule)]).state.accumulator["w"]
    assert_near(memory, torch.linalg.pinv(keys) @ values, SEARCHED)
    assert_near(keys @ memory, values, SEARCHED)


@pytest.mark.equation("miras", 7)
@pytest.mark.equation("miras", "ftrl viewpoint")
@pytest.mark.parametrize("eta", [0.4, None], ids=["one rate", "many"])
def test_gradient_descent_from_nothing_follows_the_regularised_leader(eta: float | None) -> None:
    """W_t = argmin over W of sum_{i <= t} <W - W_{i-1}, g_i> + |W|^2 / (2 eta), one eta for all tokens; where rates differ it does not."""
    here = from_nothing(stream_of(presets.delta_net()))
    here = at_rate(here, 0.1 + here.tokens.lr if eta is None else torch.full_like(here.tokens.lr, eta))
    _, k, v, lr, memory = letters(here)
    seen: list[tuple[Tensor, Tensor]] = []

    def regret(w: Tensor) -> Tensor:
        return torch.stack([((w - at) * g).sum() for at, g in seen]).sum() + (w.square() / (2 * lr[:, len(seen) - 1])).sum()

    for t in range(TIME):
        seen.append((memory, outer(k[:, t], read(k[:, t], memory) - v[:, t])))
        memory = memory - lr[:, t] * seen[-1][1] if eta is None else least(regret, memory)
    agree_nearly(here, memory)
    assert bool((least(regret, memory) - memory).abs().max() < 1e-6) == (eta is not None)


@pytest.mark.equation("miras", 8)
def test_a_hebbian_step_with_decay_is_least() -> None:
    """M_t minimises -2 <k_t M, v_t> + |M - alpha_t M_{t-1}|^2."""
    rule = presets.retnet()
    here = stream_of(rule)
    here = at_rate(here, torch.ones_like(here.tokens.lr))
    _, k, v, _, memory = letters(here)
    kept = kept_of(here)
    for t in range(TIME):
        memory = least(lambda w, t=t, m=memory: -2 * (read(k[:, t], w) * v[:, t]).sum() + (w - kept[:, t] * m).square().sum(), memory)
    agree_nearly(here, memory)


@pytest.mark.equation("miras", 9)
@pytest.mark.equation("miras", "learning-retaining")
def test_a_delta_step_with_decay_is_least() -> None:
    """M_t minimises <M, grad of |k_t M - v_t|^2 at alpha_t M_{t-1}> + |M - alpha_t M_{t-1}|^2 / eta_t."""
    rule = presets.gated_delta_net()
    here = stream_of(rule)
    here = at_rate(here, 0.1 + here.tokens.lr)
    _, k, v, lr, memory = letters(here)
    kept = kept_of(here)
    for t in range(TIME):
        at = (kept[:, t] * memory).requires_grad_()
        (g,) = torch.autograd.grad((read(k[:, t], at) - v[:, t]).square().sum(), at)
        at = at.detach()
        memory = least(lambda w, t=t, at=at, g=g: (w * g).sum() + ((w - at).square() / lr[:, t]).sum(), memory)
    agree_nearly(here, memory)


# ---- section 5.1


def steps_of(held: AbstractBias, loss: Map, slope: Map, size: float = 1.0) -> None:
    """W_t = W_{t-1} - eta_t k_t^T e_t with e_t the slope at the error k_t W_{t-1} - v_t, and the loss of that error told as surprise."""
    rule = replace(presets.delta_net(), bias=held)
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, v=size * here.tokens.v))
    q, k, v, lr, memory = letters(here)
    outputs, losses = [], []
    for t in range(TIME):
        r = read(k[:, t], memory) - v[:, t]
        losses.append(loss(r))
        memory = memory - lr[:, t] * outer(k[:, t], slope(r))
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).surprise, torch.stack(losses, dim=1))


@pytest.mark.equation("miras", 10)
@pytest.mark.equation("miras", 11)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 4.0])
def test_a_matrix_learns_powers_of_its_error(p: float) -> None:
    """l = |k W - v|_p^p and W_t = W_{t-1} - p eta_t k_t^T (sign(r) |r|^(p-1)), r the error of W_{t-1}."""
    steps_of(bias.Lp(p=p), lambda r: (r.abs() ** p).sum(-1), lambda r: p * r.sign() * r.abs() ** (p - 1))


@pytest.mark.equation("miras", 12)
def test_a_matrix_learns_signs_of_its_error() -> None:
    """W_t = W_{t-1} - eta_t k_t^T sign(k_t W_{t-1} - v_t)."""
    steps_of(bias.Lp(p=1.0), lambda r: r.abs().sum(-1), torch.sign)


def huber(size: Tensor, delta: float) -> Tensor:
    return torch.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


@pytest.mark.equation("miras", 13)
@pytest.mark.equation("miras", 14)
def test_a_matrix_learns_errors_clipped_number_by_number() -> None:
    """W_t = W_{t-1} - eta_t k_t^T (r where |r| <= delta, delta sign(r) elsewhere)."""
    steps_of(bias.Huber(kind="coordinate", threshold=0.6), lambda r: huber(r.abs(), 0.6).sum(-1), lambda r: r.clamp(-0.6, 0.6), size=2.0)


@pytest.mark.equation("miras", 13)
@pytest.mark.equation("miras", 15)
def test_a_matrix_learns_errors_whose_length_is_clipped() -> None:
    """W_t = W_{t-1} - eta_t k_t^T (r if |r|_2 <= delta, else delta r / |r|_2)."""
    norm = torch.linalg.vector_norm
    held = bias.Huber(kind="norm", threshold=1.4)
    steps_of(held, lambda r: huber(norm(r, dim=-1), 1.4), lambda r: r * (1.4 / norm(r, dim=-1, keepdim=True)).clamp(max=1))


@pytest.mark.equation("miras", 16)
def test_a_matrix_learns_small_errors_and_the_signs_of_large_ones() -> None:
    """W_t = W_{t-1} - eta_t grad of |r|_2^2 / 2 if |r|_2 <= delta, else W_{t-1} - eta_t delta grad of |r|_1."""

    def near(r: Tensor) -> Tensor:
        return r.square().sum(-1).sqrt() <= 1.4

    steps_of(
        bias.Huber(kind="mixture", threshold=1.4),
        lambda r: torch.where(near(r), r.square().sum(-1) / 2, 1.4 * r.abs().sum(-1)),
        lambda r: torch.where(near(r).unsqueeze(-1), r, 1.4 * r.sign()),
    )


@pytest.mark.equation("miras", 17)
def test_a_matrix_learns_against_the_worst_shift_of_its_values() -> None:
    """W_t = W_{t-1} - eta_t k_t^T (r + Delta r / |r|_2), the gradient of the half squared error at the worst v + s, s = -Delta r / |r|_2."""
    size = lambda r: torch.linalg.vector_norm(r, dim=-1, keepdim=True)  # noqa: E731
    steps_of(bias.ShiftRobust(radius=0.5), lambda r: (r + 0.5 * r / size(r)).square().sum(-1) / 2, lambda r: r + 0.5 * r / size(r))


# ---- section 5.2


def whole(w: Tensor) -> Tensor:
    """The sum over a matrix."""
    return w.sum((-2, -1), keepdim=True)


def shrunk(z: Tensor) -> Tensor:
    return z.sign() * (z.abs() - 0.02).clamp(min=0)


def gates_of(gate: AbstractRetention, begin: Map, step: Callable[[Tensor, Tensor, Tensor], Tensor], link: Map = lambda a: a) -> None:
    """A_t = step(A_{t-1}, eta_t g_t, kept_t) from what ``begin`` makes of the initial matrix, read at W_t = link(A_t)."""
    rule = replace(presets.delta_net(), retention=gate)
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    kept = torch.ones_like(lr) if here.tokens.retain is None else kept_of(here)
    at, outputs = begin(memory), []
    for t in range(TIME):
        at = step(at, lr[:, t] * outer(k[:, t], read(k[:, t], link(at)) - v[:, t]), kept[:, t])
        outputs.append(read(q[:, t], link(at)))
    for engine in engines_of(rule):
        outcome = run(here, [engine])
        assert_near(outcome.y, torch.stack(outputs, dim=1), what=f"outputs of {engine}")
        assert_near(gate.expose(outcome.state.accumulator)["w"], link(at), what=f"memory of {engine}")


@pytest.mark.equation("miras", 18)
def test_a_matrix_that_keeps_near_by_a_divergence() -> None:
    """W_t = W_{t-1} * g(-zeta_t - eta_t g_t): for f = t ln t a product with exponentials, brought back to the sum c = 3."""
    raised = lambda w, g, _: 3 * w * torch.exp(-g) / whole(w * torch.exp(-g))  # noqa: E731
    gates_of(retention.FDivergence(f="kl", total=3.0), lambda w: 3 * w.exp() / whole(w.exp()), raised)


@pytest.mark.equation("miras", 21)
def test_a_matrix_of_shares() -> None:
    """W_t = c softmax((1 - lambda_t) log W_{t-1} - eta_t g_t) over all entries."""

    def step(w: Tensor, g: Tensor, kept: Tensor) -> Tensor:
        raised = w**kept * torch.exp(-g)
        return 2.5 * raised / whole(raised)

    gates_of(retention.KL(total=2.5, over="all"), lambda w: 2.5 * w.exp() / whole(w.exp()), step)


@pytest.mark.equation("miras", 22)
def test_a_matrix_that_forgets_softly_and_hard() -> None:
    """W_t = S_gamma(lambda W_{t-1} - zeta g_t)."""
    gates_of(retention.ElasticNet(threshold=0.02), lambda w: w, lambda w, g, kept: shrunk(kept * w - g))


@pytest.mark.equation("miras", 23)
def test_a_matrix_that_follows_an_elastic_leader() -> None:
    """A_t = A_{t-1} - eta g_t and W_t = S(A_t)."""
    gates_of(retention.ElasticNet(threshold=0.02, view="leader"), lambda w: w + 0.02 * w.sign(), lambda a, g, _: a - g, shrunk)


@pytest.mark.equation("miras", "variant 5")
def test_a_matrix_between_nothing_and_one() -> None:
    """W_t = sigmoid(logit(W_{t-1}) - eta g_t)."""
    step = lambda w, g, _: 1 / (1 + (1 - w) / w * torch.exp(g))  # noqa: E731
    gates_of(retention.Bregman(potential="sigmoid"), torch.sigmoid, step)


# ---- every bias


@pytest.mark.equation("miras", 5)
@pytest.mark.parametrize("held", [bias.L2(), bias.Dot(), bias.Lp(p=3.0), bias.Huber(threshold=0.7), bias.ShiftRobust(radius=0.3)], ids=str)
def test_a_step_is_the_gradient_by_differences(held: AbstractBias) -> None:
    """W_1 = W_0 - eta grad l(W_0; k, v), each entry of the gradient a difference quotient of the loss."""
    rule, small = replace(presets.delta_net(), bias=held), 1e-6
    here = stream_of(rule)
    _, k, v, lr, memory = letters(here)
    g = torch.zeros_like(memory)
    for i in range(KEY):
        for j in range(VALUE):
            moved = torch.zeros_like(memory)
            moved[..., i, j] = small
            up, down = (held.loss(read(k[:, 0], w), v[:, 0]) for w in (memory + moved, memory - moved))
            g[..., i, j] = (up - down) / (2 * small)
    for engine in engines_of(rule):
        _, state, _ = engine.run(rule, here.tokens.map(lambda x: x[:, :1]), here.start)
        assert_near(state.accumulator["w"], memory - lr[:, 0] * g, SEARCHED)
