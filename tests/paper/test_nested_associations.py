"""Nested Learning sections 3.1 and 5: memories that are written token by token, against their formulas written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import Gates, MemoryRule, NeuralMemory, Output, Projections, bias, learner, presets, retention
from retain.core.contracts import AbstractBias
from tests.by_hand import KEY, TIME, agree, between, engines_of, kept_of, letters, momentum_of, outer, read, stream_of
from tests.paper.argmin import argmin
from tests.streams import World, run
from tests.tolerances import assert_near

DIM = 4


def phi(x: Tensor) -> Tensor:
    """Features of keys and queries, number by number."""
    return F.elu(x) + 1


def featured(here: World, rate: float | None = None) -> World:
    """A stream whose queries and keys went through the features, at this rate for all tokens if one is given."""
    tokens = here.tokens
    assert tokens.q is not None
    lr = tokens.lr if rate is None else torch.full_like(tokens.lr, rate)
    return replace(here, tokens=replace(tokens, q=phi(tokens.q), k=phi(tokens.k), lr=lr))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bare(rule: MemoryRule, gates: Gates = Gates(lr=0.2)) -> NeuralMemory:  # noqa: B008  a frozen value
    """A layer that is a matrix, its projections and its rates, and nothing else."""
    torch.manual_seed(0)
    projections, output = Projections(conv=1, activation=None, norm=None), Output(norm=None, gate=None, project=False)
    memory = NeuralMemory(DIM, rule=rule, gates=gates, projections=projections, output=output).double()
    with torch.no_grad():
        memory.initial["w"].copy_(normal(1, DIM, DIM, seed=7))
    return memory


# ---- linear attention and its projections


@pytest.mark.equation("nested_learning", 14)
@pytest.mark.equation("nested_learning", 61)
def test_projections_are_linear_maps_that_the_memory_leaves_alone_and_the_outer_loss_does_not() -> None:
    """q = x W_q, k = x W_k, v = x W_v; a step of the memory moves none of them, and the outer gradient reaches all through what was written."""
    memory, x = bare(presets.linear_attention()), normal(2, 5, DIM)
    maps = [memory.projections.to_q, memory.projections.to_k, memory.projections.to_v]
    before = [part.weight.detach().clone() for part in maps]
    q, k, v, _ = memory.projections((x, x, x), None, torch.tensor([5, 5]))
    for found, w in zip((q[:, :, 0], k[:, :, 0, 0], v[:, :, 0, 0]), before, strict=True):
        assert_near(found, torch.einsum("bti,oi->bto", x, w))
    y, _ = memory(x)
    y[:, -1].square().sum().backward()
    for part, w in zip(maps, before, strict=True):
        assert torch.equal(part.weight, w)
        assert part.weight.grad is not None
        assert bool(part.weight.grad.abs().max() > 1e-6)


@pytest.mark.equation("nested_learning", 15)
@pytest.mark.equation("nested_learning", 16)
def test_linear_attention_reads_all_tokens_up_to_its_own() -> None:
    """y_t = M_t q_t with M_t = M_{t-1} + v_t k_t^T is q_t M_0 + tril(Q K^T) V, the token itself included."""
    here = stream_of(presets.linear_attention())
    here = replace(here, tokens=replace(here.tokens, lr=torch.ones_like(here.tokens.lr)))
    q, k, v, _, memory = letters(here)
    scores = torch.einsum("bthk,bihk->bhti", q, k).tril()
    y = torch.einsum("bhti,bihv->bthv", scores, v) + torch.einsum("bthk,bhkv->bthv", q, memory)
    agree(here, here.rule, list(y.unbind(1)), memory + torch.einsum("bthk,bthv->bhkv", k, v))


@pytest.mark.equation("nested_learning", 5)
def test_fast_weights_decay_and_are_read_through_features() -> None:
    """M_t = sum_i (prod_{s>i} alpha_s) v_i phi(k_i)^T and y_t = M_t phi(q_t)."""
    here = featured(stream_of(presets.retnet()), rate=1.0)
    q, k, v, _, start = letters(here)
    alpha, outputs, memory = kept_of(here), [], start
    for t in range(TIME):
        memory = between(alpha, -1, t) * start + sum(between(alpha, i, t) * outer(k[:, i], v[:, i]) for i in range(t + 1))
        outputs.append(read(q[:, t], memory))
    agree(here, here.rule, outputs, memory)


def _first_step(rule: MemoryRule) -> tuple[World, Tensor, Tensor, Tensor, Tensor]:
    """A stream of one token, and its key, value, rate and the memory before it, as the papers' columns and matrices, of one head of one row."""
    here = stream_of(rule)
    here = replace(here, tokens=here.tokens.map(lambda x: x[:1, :1, :1]), lengths=torch.tensor([1]), initial={"w": here.initial["w"][:1]})
    here = replace(here, tokens=replace(here.tokens, lr=torch.full_like(here.tokens.lr, 0.3)))
    _, k, v, lr, memory = letters(here)
    return here, k[0, 0, 0], v[0, 0, 0], lr[0, 0, 0], memory[0, 0].T


def _after(here: World) -> list[Tensor]:
    """The memory behind the stream, from every engine, as the papers' matrix."""
    return [run(here, [engine]).state.accumulator["w"][0, 0].T for engine in engines_of(here.rule)]


@pytest.mark.equation("nested_learning", 17)
@pytest.mark.equation("nested_learning", 18)
def test_a_hebbian_write_is_least_and_is_a_gradient_step_of_size_one() -> None:
    """M_{t+1} = argmin -<M k, v> + |M - M_t|^2 / 2 = M_t - grad = M_t + v k^T."""
    here, k, v, _, m = _first_step(presets.linear_attention())
    here = replace(here, tokens=replace(here.tokens, lr=torch.ones_like(here.tokens.lr)))
    least = argmin(lambda x: -(x @ k) @ v + (x - m).square().sum() / 2, m)
    leaf = m.clone().requires_grad_()
    (slope,) = torch.autograd.grad(-(leaf @ k) @ v, leaf)
    for found in _after(here):
        assert_near(found, least, {torch.float64: 1e-7})
        assert_near(found, m - slope)
        assert_near(found, m + torch.outer(v, k))


_OUTPUT_SLOPES: list[tuple[AbstractBias, Callable[[Tensor, Tensor], Tensor]]] = [
    (bias.L2(), lambda y, v: y - v),
    (bias.Dot(), lambda y, v: -v),
    (bias.Huber(kind="norm", threshold=0.4), lambda y, v: 0.4 * (y - v) / (y - v).norm()),
]


@pytest.mark.equation("nested_learning", 20)
@pytest.mark.parametrize(("held", "slope"), _OUTPUT_SLOPES, ids=["L2", "Dot", "Huber"])
def test_a_memory_alone_is_a_nested_system_whose_step_goes_down(held: AbstractBias, slope: Callable[[Tensor, Tensor], Tensor]) -> None:
    """M' = argmin <X k, grad_y L(M; k, v)> + |X - M|^2 / (2 eta), retrieved by M'(q). With the printed minus the loss rises."""
    here, k, v, lr, m = _first_step(replace(presets.delta_net(), bias=held))
    u, eta = slope(m @ k, v), float(lr)
    assert float((m @ k - v).norm()) > 0.4
    step = lambda sign: argmin(lambda x: sign * (x @ k) @ u + (x - m).square().sum() / (2 * eta), m)  # noqa: E731
    for found in _after(here):
        assert_near(found, step(1.0), {torch.float64: 1e-7})
    loss = lambda x: float(held.loss(x @ k, v))  # noqa: E731
    assert loss(step(1.0)) < loss(m) < loss(step(-1.0))
    assert here.tokens.q is not None
    for engine in engines_of(here.rule):
        assert_near(run(here, [engine]).y[0, 0, 0], (m - eta * torch.outer(u, k)) @ here.tokens.q[0, 0, 0])


# ---- rules of learning


@pytest.mark.equation("nested_learning", 64)
def test_the_hebbian_rule_writes_whatever_is_known() -> None:
    """M_t = alpha_t M_{t-1} + eta_t v_t phi(k_t)^T; the gradient of -2 <M k, v> is -2 v k^T, of which the rate takes the two."""
    here = featured(stream_of(presets.retnet()))
    q, k, v, lr, memory = letters(here)
    alpha, outputs = kept_of(here), []
    for t in range(TIME):
        leaf = memory.clone().requires_grad_()
        (slope,) = torch.autograd.grad(-2 * (read(k[:, t], leaf) * v[:, t]).sum(), leaf)
        assert_near(slope, -2 * outer(k[:, t], v[:, t]))
        memory = alpha[:, t] * memory - lr[:, t] / 2 * slope
        outputs.append(read(q[:, t], memory))
    agree(here, here.rule, outputs, memory)


@pytest.mark.equation("nested_learning", 65)
def test_the_delta_rule_writes_what_is_missing() -> None:
    """M_t = M_{t-1} (I - eta k k^T) + eta v k^T, the factor at the right; at rate one a key of length one recalls its value."""
    here = stream_of(presets.delta_net())
    q, k, v, lr, memory = letters(here)
    m, eye, outputs = memory.mT, torch.eye(KEY, dtype=torch.float64), []
    for t in range(TIME):
        leaf = m.clone().requires_grad_()
        (slope,) = torch.autograd.grad(((leaf @ k[:, t, :, :, None]).squeeze(-1) - v[:, t]).square().sum() / 2, leaf)
        factor = m @ (eye - lr[:, t] * outer(k[:, t], k[:, t])) + lr[:, t] * outer(v[:, t], k[:, t])
        assert_near(m - lr[:, t] * slope, factor)
        m = factor
        outputs.append((m @ q[:, t, :, :, None]).squeeze(-1))
    agree(here, here.rule, outputs, m.mT)
    ones = replace(here, tokens=replace(here.tokens, lr=torch.ones_like(here.tokens.lr), q=here.tokens.k[:, :, :, 0]))
    agree(ones, here.rule, list(v.unbind(1)), run(ones, [engines_of(here.rule)[-1]]).state.accumulator["w"])


@pytest.mark.equation("nested_learning", 66)
@pytest.mark.equation("nested_learning", 67)
def test_ojas_rule_writes_what_the_value_does_not_say_of_the_key_yet() -> None:
    """M_t = alpha_t M_{t-1} + eta_t v_t (phi(k_t) - M_{t-1}^T v_t)^T, half a step down -2 <M k, v> + |M^T v|^2, read by M_t phi(q_t)."""
    here = featured(stream_of(presets.oja()))
    q, k, v, lr, memory = letters(here)
    m, alpha, outputs, surprise = memory.mT, kept_of(here), [], []
    for t in range(TIME):
        leaf, key, value = m.clone().requires_grad_(), k[:, t, :, :, None], v[:, t, :, :, None]
        (slope,) = torch.autograd.grad(-2 * (leaf @ key * value).sum() + (leaf.mT @ value).square().sum(), leaf)
        missing = key - m.mT @ value
        assert_near(-slope / 2, value @ missing.mT)
        surprise.append(missing.square().sum((-2, -1)) / 2)
        m = alpha[:, t] * m + lr[:, t] * value @ missing.mT
        outputs.append((m @ q[:, t, :, :, None]).squeeze(-1))
    agree(here, here.rule, outputs, m.mT)
    for engine in engines_of(here.rule):
        assert_near(run(here, [engine]).surprise, torch.stack(surprise, dim=1), what=f"surprise of {engine}")


@pytest.mark.equation("nested_learning", 67)
@pytest.mark.parametrize("every", [1, 4])
def test_ojas_objective_goes_with_momentum_and_with_segments(every: int) -> None:
    """S_t = mu_t S_{t-1} - eta_t grad at the last boundary, M_t = alpha_t M_{t-1} + S_t."""
    rule = replace(presets.oja(), learner=learner.Momentum(), update_every=every)
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    alpha, mu, surprise, outputs, anchor = kept_of(here), momentum_of(here), torch.zeros_like(memory), [], memory
    for t in range(TIME):
        anchor = memory if t % every == 0 else anchor
        missing = k[:, t] - torch.einsum("bhv,bhkv->bhk", v[:, t], anchor)
        surprise = mu[:, t] * surprise + lr[:, t] * outer(missing, v[:, t])
        memory = alpha[:, t] * memory + surprise
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("nested_learning", 67)
def test_an_implicit_step_of_ojas_objective_ends_where_its_gradient_is_taken() -> None:
    """X = M + eta v (k - X^T v)^T, a linear system for X, whatever the length of the value."""
    rule = replace(presets.oja(), learner=learner.Implicit(), retention=retention.Keep())
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, v=10 * here.tokens.v))
    q, k, v, lr, memory = letters(here)
    eye, outputs = torch.eye(v.shape[-1], dtype=torch.float64), []
    for t in range(TIME):
        left = eye + lr[:, t] * outer(v[:, t], v[:, t])
        memory = torch.linalg.solve(left, memory.mT + lr[:, t] * outer(v[:, t], k[:, t])).mT
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("nested_learning", 68)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("held", [bias.L2(), bias.Dot(), bias.Transposed()], ids=["L2", "Dot", "Transposed"])
def test_the_omega_rule_takes_the_gradients_of_its_window_where_the_memory_stood(tokens: int, held: AbstractBias) -> None:
    """M_t = alpha_t M_{t-1} - sum_{i=t-c+1..t} gamma_{t,i} grad L(M_{t-1}; phi(k_i), v_i)."""
    rule = replace(presets.gated_delta_net(), bias=bias.Omega(inner=held, window=tokens), retention=retention.Decay())
    here = featured(stream_of(rule))
    here = replace(here, tokens=replace(here.tokens, share=None)) if tokens == 1 else here
    q, k, v, lr, memory = letters(here)
    alpha, outputs = kept_of(here), []
    for t in range(TIME):
        leaf, total = memory.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
        for age in range(min(tokens, t + 1)):
            gamma = lr[:, t, :, 0, 0] * (1.0 if here.tokens.share is None else here.tokens.share[:, t, :, age])
            key, value = k[:, t - age], v[:, t - age]
            loss = {
                bias.L2(): lambda key=key, value=value, leaf=leaf: (read(key, leaf) - value).square().sum(-1) / 2,
                bias.Dot(): lambda key=key, value=value, leaf=leaf: -(read(key, leaf) * value).sum(-1),
                bias.Transposed(): lambda key=key, value=value, leaf=leaf: (read(value, leaf.mT) - key).square().sum(-1) / 2,
            }[held]()
            total = total + (gamma * loss).sum()
        memory = alpha[:, t] * memory - torch.autograd.grad(total, leaf)[0]
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
