"""Learners of MIRAS Table 1, Titans' appendix C and ATLAS against their equations, written out in rows by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain import MemoryRule, bias, learner, presets, retention, structure
from retain.core.contracts import AbstractBias, AbstractLearner, AbstractRetention
from retain.numerics import newton_schulz
from tests.cases import JUDGE, willing
from tests.streams import World, run, world
from tests.tolerances import assert_near

TIME, KEY, VALUE = 9, 4, 3


def _rule(how: AbstractLearner, held: AbstractBias | None = None, kept: AbstractRetention | None = None, update_every: int = 1) -> MemoryRule:
    """A matrix, half the squared error and no forgetting, unless told otherwise."""
    return MemoryRule(
        structure=structure.Matrix(), bias=held or bias.L2(), retention=kept or retention.Keep(), learner=how, update_every=update_every
    )


def _agree(here: World, outputs: list[Tensor], memory: Tensor) -> None:
    """Outputs [heads, value] of the one row, token by token, and the memory in the end."""
    for engine in [*willing(here.rule), JUDGE]:
        outcome = run(here, [engine])
        assert_near(outcome.y[0], torch.stack(outputs), what=f"outputs of {engine}")
        assert_near(outcome.state.accumulator["w"][0], memory, what=f"memory of {engine}")


def _world(rule: MemoryRule, pairs: int = 1) -> World:
    return world(rule, 0, batch=1, time=TIME, heads=2, key=KEY, value=VALUE, pairs=pairs)


@pytest.mark.equation("titans", 35)
def test_longhorn_takes_its_gradient_where_it_comes_to() -> None:
    """X = M - theta k^T (k X - v): a linear system for X; and X minimises |X - M|^2 + theta |k X - v|^2."""
    here = _world(presets.longhorn())
    q, k, v, lr, memory = here.tokens.q, here.tokens.k[0, :, :, 0], here.tokens.v[0, :, :, 0], here.tokens.lr[0], here.initial["w"]
    assert q is not None
    outputs = []
    for t in range(TIME):
        theta, new = lr[t, :, :, None], []
        for h in range(2):
            left = torch.eye(KEY, dtype=torch.float64) + theta[h] * torch.outer(k[t, h], k[t, h])
            new.append(torch.linalg.solve(left, memory[h] + theta[h] * torch.outer(k[t, h], v[t, h])))
        x = torch.stack(new).requires_grad_()
        error = torch.einsum("hk,hkv->hv", k[t], x) - v[t]
        cost = (x - memory).square().sum() + (theta[..., 0] * error.square()).sum()
        assert_near(torch.autograd.grad(cost, x)[0], torch.zeros_like(x), what="slope at the minimum")
        memory = x.detach()
        outputs.append(torch.einsum("hk,hkv->hv", q[0, t], memory))
    _agree(here, outputs, memory)


@pytest.mark.equation("atlas", 14)
@pytest.mark.equation("miras", 4)
def test_least_squares_is_the_minimiser_over_all_that_was_seen() -> None:
    """With a vanishing ridge the memory is V K^+; with one, the minimiser of the ridge problem around the initial memory, after every token."""
    for ridge in (0.5, 1e-9):
        rule = _rule(learner.LeastSquares(ridge=ridge))
        here = _world(rule)
        ones = torch.ones_like(here.tokens.lr)
        here = replace(here, tokens=replace(here.tokens, lr=ones, momentum=ones))
        q, k, v, start = here.tokens.q, here.tokens.k[0, :, :, 0], here.tokens.v[0, :, :, 0], here.initial["w"]
        assert q is not None
        outputs, memory = [], start
        for t in range(TIME):
            rows = torch.cat([k[: t + 1].transpose(0, 1), ridge**0.5 * torch.eye(KEY, dtype=torch.float64).expand(2, -1, -1)], dim=1)
            targets = torch.cat([v[: t + 1].transpose(0, 1), ridge**0.5 * start], dim=1)
            memory = torch.linalg.lstsq(rows, targets).solution
            outputs.append(torch.einsum("hk,hkv->hv", q[0, t], memory))
        if ridge > 1e-3:
            _agree(here, outputs, memory)
        closed = torch.linalg.pinv(k.transpose(0, 1)) @ v.transpose(0, 1)
        after = run(here, [JUDGE]).state.accumulator["w"][0]
        assert ((after - closed).abs().max() < 1e-6) == (ridge < 1e-3)


@pytest.mark.equation("miras", "table 1, DeltaProduct")
def test_delta_product_is_a_product_of_householder_like_maps() -> None:
    """M = prod_j (I - b_j k_j^T k_j) a M + sum_j prod_{i>j} (I - b_i k_i^T k_i) b_j k_j^T v_j, the first j rightmost."""
    here = _world(presets.delta_product(), pairs=3)
    t_, memory = here.tokens, here.initial["w"]
    assert t_.q is not None
    assert t_.retain is not None
    outputs = []
    for t in range(TIME):
        through, written = torch.eye(KEY, dtype=torch.float64).expand(2, -1, -1), torch.zeros_like(memory)
        for j in range(3):
            k, v, b = t_.k[0, t, :, j], t_.v[0, t, :, j], t_.lr[0, t, :, j, None, None]
            turn = torch.eye(KEY, dtype=torch.float64) - b * k.unsqueeze(-1) * k.unsqueeze(-2)
            through, written = turn @ through, turn @ written + b * k.unsqueeze(-1) * v.unsqueeze(-2)
        memory = through @ (t_.retain[0, t, :, None, None] * memory) + written
        outputs.append(torch.einsum("hk,hkv->hv", t_.q[0, t], memory))
    _agree(here, outputs, memory)


@pytest.mark.equation("atlas", 8)
@pytest.mark.equation("atlas", 9)
@pytest.mark.equation("atlas", 11)
def test_the_omega_rule_holds_a_window() -> None:
    """M_t = a_t M_{t-1} - theta_t sum_{i=t-c+1..t} gamma_i k_i^T (k_i M_{t-1} - v_i)."""
    here = _world(_rule(learner.Gradient(), bias.Omega(window=3), retention.Decay()))
    t_, memory = here.tokens, here.initial["w"]
    assert t_.q is not None
    assert t_.retain is not None
    assert t_.share is not None
    outputs = []
    for t in range(TIME):
        step = torch.zeros_like(memory)
        for age in range(min(3, t + 1)):
            k, v = t_.k[0, t - age, :, 0], t_.v[0, t - age, :, 0]
            error = torch.einsum("hk,hkv->hv", k, memory) - v
            step = step + t_.share[0, t, :, age, None, None] * k.unsqueeze(-1) * error.unsqueeze(-2)
        memory = t_.retain[0, t, :, None, None] * memory - t_.lr[0, t, :, :, None] * step
        outputs.append(torch.einsum("hk,hkv->hv", t_.q[0, t], memory))
    _agree(here, outputs, memory)


@pytest.mark.equation("atlas", 15)
@pytest.mark.equation("atlas", 16)
def test_the_omega_rule_in_chunks_is_one_product_with_a_banded_mask() -> None:
    """With w = (beta_b / beta * eta) @ band, the memory at a chunk's end is beta_b M_0 - K^T ((K M_0 - V) * w); older tokens reach over the border."""
    size, window = 4, 3
    here = _world(_rule(learner.Gradient(), bias.Omega(window=window), retention.Decay(), update_every=size))
    t_ = replace(here.tokens, share=None, retain=None if here.tokens.retain is None else 0.5 + here.tokens.retain / 2)
    assert t_.retain is not None
    memory = here.initial["w"]
    for start in range(0, 2 * size, size):
        first = max(0, start - window + 1)
        k, v = (x[0, first : start + size, :, 0].transpose(0, 1) for x in (t_.k, t_.v))
        beta = t_.retain[0, start : start + size].cumprod(0)
        by_step = beta[-1] / beta * t_.lr[0, start : start + size, :, 0]
        step, token = torch.arange(start, start + size)[:, None], torch.arange(first, start + size)
        band = ((token <= step) & (token > step - window)).double()
        weights = torch.einsum("sh,st->ht", by_step, band).unsqueeze(-1)
        memory = beta[-1][:, None, None] * memory - k.transpose(1, 2) @ ((k @ memory - v) * weights)
    here = replace(here, tokens=t_.map(lambda x: x[:, : 2 * size]), lengths=torch.tensor([2 * size]))
    for engine in [*willing(here.rule), JUDGE]:
        assert_near(run(here, [engine]).state.accumulator["w"][0], memory, what=f"memory of {engine}")


@pytest.mark.equation("atlas", 12)
@pytest.mark.equation("atlas", 13)
def test_a_window_of_one_token_is_the_bias_inside() -> None:
    here = _world(replace(presets.titans(update_every=3), structure=structure.Matrix()))
    there = replace(here, rule=replace(here.rule, bias=bias.Omega(window=1)))
    for engine in [*willing(there.rule), JUDGE]:
        assert_near(run(there, [engine]).y, run(here, [JUDGE]).y, what=str(engine))


@pytest.mark.equation("atlas", 32)
@pytest.mark.equation("atlas", 33)
def test_atlas_turns_the_momentum_of_a_window() -> None:
    """M_t = a_t M_{t-1} - eta_t NS(S_t), S_t = theta_t S_{t-1} + sum gamma_i grad |M(k_i) - v_i|^2 at the last boundary; here a memory of two matrices."""
    rule = presets.atlas(window=2, update_every=1)
    here = world(rule, 0, batch=1, time=6, heads=1, key=KEY, value=KEY)
    t_, params = here.tokens, {name: w[0] for name, w in here.initial.items()}
    assert t_.share is not None
    assert t_.retain is not None
    assert t_.momentum is not None
    moment = {name: torch.zeros_like(w) for name, w in params.items()}
    for t in range(6):
        leaves = {name: w.clone().requires_grad_() for name, w in params.items()}
        loss = torch.zeros((), dtype=torch.float64)
        for age in range(min(2, t + 1)):
            y = torch.nn.functional.gelu(t_.k[0, t - age, 0, 0] @ leaves["w0"]) @ leaves["w1"]
            loss = loss + t_.share[0, t, 0, age] * (y - t_.v[0, t - age, 0, 0]).square().sum()
        slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        moment = {name: t_.momentum[0, t, 0, 0] * s + slopes[name] for name, s in moment.items()}
        params = {name: t_.retain[0, t, 0] * w - t_.lr[0, t, 0, 0] * newton_schulz(moment[name]) for name, w in params.items()}
    after = run(here, [JUDGE]).state.accumulator
    for name, w in params.items():
        assert_near(after[name][0, 0], w, {torch.float64: 1e-7}, what=name)


def test_cubic_newton_schulz_comes_to_the_nearest_orthogonal_matrix_and_quintic_only_near() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    assert_near(newton_schulz(x, 30, "cubic"), u @ v)
    assert_near(newton_schulz(7.0 * x, 30, "cubic"), newton_schulz(x, 30, "cubic"))
    assert (newton_schulz(x, 30) - u @ v).abs().max() > 0.01


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: _rule(learner.InTurn(), update_every=4), r"Leave InTurn out"),
        (lambda: _rule(learner.Implicit(), update_every=4), r"needs update_every=1, got 4"),
        (lambda: _rule(learner.Implicit(), bias.Lp()), r"Use learner\.Gradient\(\)"),
        (lambda: _rule(learner.Implicit(), kept=retention.Decay()), r"needs a retention gate that multiplies, with grad_at='decayed'"),
        (lambda: _rule(learner.LeastSquares(), kept=retention.Decay()), r"forgets by its own momentum gate"),
        (lambda: _rule(learner.LeastSquares(), bias.Dot()), r"Use bias\.L2\(\)"),
        (lambda: replace(presets.titans(), learner=learner.LeastSquares()), r"Use structure\.Matrix\(\)"),
        (lambda: learner.LeastSquares(ridge=0.0), r"ridge must be positive"),
        (lambda: bias.Omega(window=0), r"must be at least 1, got 0"),
        (lambda: bias.Omega(inner=bias.Omega()), r"the bias of one token"),
    ],
)
def test_what_has_no_meaning_is_refused_with_a_cure(make: object, cure: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=cure):
        make()


def test_an_implicit_step_of_several_associations_is_refused() -> None:
    here = _world(presets.longhorn())
    two = here.tokens.map(lambda x: torch.cat([x, x], dim=3) if x.ndim >= 4 and x.shape[3] == 1 else x)
    with pytest.raises(ValueError, match=r"one association at a time, got 2\. Use learner\.InTurn\(inner=learner\.Implicit\(\)\)"):
        JUDGE.run(here.rule, two, here.start)
