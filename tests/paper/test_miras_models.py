"""MIRAS sections 5.3 and 5.4: Moneta, Yaad and Memora, token by token and in chunks, against the formulas written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain import MemoryRule, bias, learner, presets, retention, structure
from tests.by_hand import (
    KEY,
    TIME,
    Weights,
    agree_in_all,
    between,
    deep,
    engines_of,
    initial_of,
    kept_of,
    letters,
    like,
    outer,
    read,
    stream_of,
)
from tests.cases import JUDGE
from tests.streams import World, run
from tests.tolerances import assert_near

CONTRAST = 3.0  # how far apart the logarithms of shares start
CHUNK = 4
Loss = Callable[[Tensor], Tensor]  # of an error [batch, heads, value], one number for each


def gradient_of(loss: Loss, k: Tensor, v: Tensor, weights: Weights) -> Weights:
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    found = torch.autograd.grad(loss(deep(k, leaves) - v).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def matrices(function: Callable[[Tensor], Tensor], weights: Weights) -> Weights:
    """The function of each matrix of a memory, its gains as they are."""
    return {name: function(w) if w.ndim == 4 else w for name, w in weights.items()}


def norm(w: Tensor, q: float) -> Tensor:
    return (w.abs() ** q).sum((-2, -1), keepdim=True) ** (1 / q)


def outputs_agree(here: World, rule: MemoryRule, outputs: list[Tensor], exposed: Weights) -> None:
    """Engines give these outputs, and the weights exposed at the end are these."""
    for engine in engines_of(rule):
        outcome = run(here, [engine])
        assert_near(outcome.y, torch.stack(outputs, dim=1), what=f"outputs of {engine}")
        for name, w in rule.retention.expose(outcome.state.accumulator).items():
            assert_near(w, exposed[name], what=f"{name} of {engine}")


def _some_is_kept(here: World) -> World:
    """The stream without tokens that erase everything: a norm of nothing and a logarithm of nothing say nothing."""
    assert here.tokens.retain is not None
    return replace(here, tokens=replace(here.tokens, retain=here.tokens.retain.clamp(min=0.5)))


# ---- section 5.3


@pytest.mark.equation("miras", 24)
@pytest.mark.equation("miras", 25)
@pytest.mark.parametrize("exact", [True, False])
def test_moneta_holds_powers_of_the_error_and_divides_by_a_norm(exact: bool) -> None:
    """A_t = alpha_t A_{t-1} - eta_t grad l_p(W_{t-1}; k_t, v_t) and W_t = A_t / |A_t|_q^(q-2), p = 3 and q = 4, from weights of norm one.

    Each matrix has its norm, gains have none. The preset takes (r^2 + 1e-6)^(3/2) for |r|^3.
    """
    rule = presets.moneta(update_every=1)
    rule = replace(rule, bias=bias.Lp(p=3.0)) if exact else rule
    here = stream_of(rule, value=KEY)
    here = _some_is_kept(here)
    q, k, v, lr, _ = letters(here)
    kept, outputs = kept_of(here), []
    accumulator = matrices(lambda w: w / norm(w, 4), initial_of(here))
    for t in range(TIME):
        weights = matrices(lambda a: a / norm(a, 4) ** 2, accumulator)
        g = gradient_of(lambda r: ((r**2 + (0 if exact else 1e-6)) ** 1.5).sum(-1), k[:, t], v[:, t], weights)
        accumulator = {name: like(kept[:, t], a) * a - like(lr[:, t], a) * g[name] for name, a in accumulator.items()}
        outputs.append(deep(q[:, t], matrices(lambda a: a / norm(a, 4) ** 2, accumulator)))
    agree_in_all(here, rule, outputs, accumulator)


@pytest.mark.equation("miras", 25)
def test_the_rate_of_moneta_counts_once() -> None:
    """grad l_p = p k^T (sign(r) |r|^(p-1)); twice the rate is twice the step."""
    rule = replace(presets.moneta(q=2.0, update_every=1), structure=structure.Matrix(), bias=bias.Lp(p=3.0))
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, retain=torch.ones(2, TIME, 2, dtype=torch.float64)))
    _, k, v, lr, _ = letters(here)
    begun = here.start.accumulator["w"]
    r = read(k[:, 0], begun) - v[:, 0]
    for engine in engines_of(rule):
        for times in (1.0, 2.0):
            first = replace(here.tokens, lr=times * here.tokens.lr).map(lambda x: x[:, :1])
            _, state, _ = engine.run(rule, first, here.start)
            assert_near(state.accumulator["w"] - begun, -times * lr[:, 0] * 3 * outer(k[:, 0], r.sign() * r.abs() ** 2))


def _mixed(r: Tensor, delta: Tensor) -> Tensor:
    return torch.where(r.square().sum(-1).sqrt() <= delta, r.square().sum(-1) / 2, delta * r.abs().sum(-1))


@pytest.mark.equation("miras", 26)
def test_yaad_holds_squares_of_small_errors_and_signs_of_large_ones() -> None:
    """W_t = alpha_t W_{t-1} - eta_t grad l_2 if |M(k_t) - v_t| <= delta_t, else W_t = alpha_t W_{t-1} - eta_t delta_t grad l_1, all at W_{t-1}."""
    rule = presets.yaad(threshold=3.0, update_every=1)
    here = stream_of(rule, value=KEY)
    assert here.tokens.threshold is not None
    q, k, v, lr, _ = letters(here)
    delta, kept, weights, outputs, large = 3.0 * here.tokens.threshold[..., 0], kept_of(here), initial_of(here), [], []
    for t in range(TIME):
        large.append((deep(k[:, t], weights) - v[:, t]).norm(dim=-1) > delta[:, t])
        g = gradient_of(lambda r, t=t: _mixed(r, delta[:, t]), k[:, t], v[:, t], weights)
        weights = {name: like(kept[:, t], w) * w - like(lr[:, t], w) * g[name] for name, w in weights.items()}
        outputs.append(deep(q[:, t], weights))
    assert 0.2 < torch.stack(large).double().mean() < 0.8
    agree_in_all(here, rule, outputs, weights)


@pytest.mark.equation("miras", 26)
def test_yaad_whose_threshold_is_never_passed_is_titans_without_momentum() -> None:
    rule = presets.yaad(threshold=1e9, update_every=CHUNK)
    here = stream_of(rule, value=KEY)
    here = replace(here, tokens=replace(here.tokens, threshold=torch.ones_like(here.tokens.lr)))
    titans = replace(presets.titans(update_every=CHUNK), learner=learner.Gradient())
    expected = run(replace(here, rule=titans, tokens=replace(here.tokens, threshold=None)), [JUDGE])
    agree_in_all(here, rule, list(expected.y.unbind(1)), dict(expected.state.accumulator))


@pytest.mark.equation("miras", 27)
def test_memora_learns_in_shares() -> None:
    """W_t = softmax(alpha_t log W_{t-1} - eta_t grad l_2(W_{t-1}; k_t, v_t)) along the last axis of each matrix; gains decay."""
    rule = presets.memora(update_every=1)
    here = stream_of(rule, value=KEY)
    q, k, v, lr, _ = letters(here)
    kept, outputs, weights = kept_of(here), [], matrices(lambda w: (CONTRAST * w).softmax(-1), initial_of(here))
    for t in range(TIME):
        g = gradient_of(lambda r: r.square().sum(-1) / 2, k[:, t], v[:, t], weights)
        raised = {name: like(kept[:, t], w) * (w.log() if w.ndim == 4 else w) - like(lr[:, t], w) * g[name] for name, w in weights.items()}
        weights = matrices(lambda z: torch.exp(z) / torch.exp(z).sum(-1, keepdim=True), raised)
        outputs.append(deep(q[:, t], weights))
    outputs_agree(here, rule, outputs, weights)


# ---- section 5.4


@pytest.mark.equation("miras", 28)
def test_chunks_of_moneta_with_a_square_norm_in_closed_form() -> None:
    """M_t = beta_t M_0 - sum over i <= t of eta_i (beta_t / beta_i) grad l(M_0; k_i, v_i), M_0 the memory at the chunk's start."""
    rule = presets.moneta(q=2.0, update_every=CHUNK)
    here = stream_of(rule, value=KEY)
    q, k, v, lr, _ = letters(here)
    kept, outputs, weights = kept_of(here), [], matrices(lambda w: w / norm(w, 2), initial_of(here))
    for start in range(0, TIME, CHUNK):
        begun, gradients = weights, []
        for t in range(start, min(start + CHUNK, TIME)):
            gradients.append(gradient_of(lambda r: ((r**2 + 1e-6) ** 1.5).sum(-1), k[:, t], v[:, t], begun))
            shares = [lr[:, i] * between(kept, i, t) for i in range(start, t + 1)]
            weights = {
                name: like(kept[:, start : t + 1].prod(1), w) * w
                - torch.stack([like(share, w) * g[name] for share, g in zip(shares, gradients, strict=True)]).sum(0)
                for name, w in begun.items()
            }
            outputs.append(deep(q[:, t], weights))
    agree_in_all(here, rule, outputs, weights)


def _chunks_as_products(rule: MemoryRule, slope: Callable[[Tensor, Tensor], Tensor]) -> None:
    """W_b = beta_b W_0 - K^T ((eta beta_b / beta) * slope(K W_0 - V)), chunk after chunk; the slope may ask for the thresholds of its tokens."""
    here = stream_of(rule)
    _, k, v, lr, memory = letters(here)
    deltas = torch.ones_like(here.tokens.lr) if here.tokens.threshold is None else here.tokens.threshold
    kept, expected = kept_of(here), torch.empty_like(memory)
    for b in range(2):
        for h in range(2):
            w = memory[b, h]
            for start in range(0, TIME, CHUNK):
                stop = min(start + CHUNK, TIME)
                keys, values = k[b, start:stop, h], v[b, start:stop, h]
                shares = torch.stack([lr[b, i, h, 0] * kept[b, i + 1 : stop, h, 0].prod() for i in range(start, stop)])
                w = kept[b, start:stop, h].prod() * w - keys.T @ (shares * slope(keys @ w - values, deltas[b, start:stop, h]))
            expected[b, h] = w
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).state.accumulator["w"], expected, what=f"memory of {engine}")


def _in_chunks(held: bias.Lp | bias.Huber) -> MemoryRule:
    return replace(presets.delta_net(), bias=held, retention=retention.Decay(), update_every=CHUNK)


@pytest.mark.equation("miras", 29)
@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
def test_the_gradient_of_a_chunk_of_powers_is_one_product(p: float) -> None:
    """sum of eta_i (beta_b / beta_i) grad l(W_0; k_i, v_i) = p K^T ((eta beta_b / beta) * sign(K W_0 - V) * |K W_0 - V|^(p-1))."""
    _chunks_as_products(_in_chunks(bias.Lp(p=p)), lambda r, _: p * r.sign() * r.abs() ** (p - 1))


@pytest.mark.equation("miras", 29)
def test_the_gradient_of_a_chunk_of_yaad_is_two_masked_products() -> None:
    held = bias.Huber(threshold=1.2, scaled="by token")
    _chunks_as_products(_in_chunks(held), lambda r, delta: torch.where(r.norm(dim=-1, keepdim=True) <= 1.2 * delta, r, 1.2 * delta * r.sign()))


def _shares(time: int) -> tuple[MemoryRule, World]:
    """Memora around one matrix, whose initial weights are logarithms of shares."""
    rule = replace(presets.memora(update_every=time), structure=structure.Matrix())
    return rule, stream_of(rule)


@pytest.mark.equation("miras", 27)
@pytest.mark.equation("miras", 30)
def test_a_chunk_of_memora_steps_in_logarithms_and_is_the_recursion_of_softmaxes() -> None:
    """W_t = softmax(alpha_t log W_{t-1} - eta_t grad l(M_0; k_t, v_t)) at every token of a chunk, of which the first is the lag token of equation 30."""
    rule, here = _shares(CHUNK)
    q, k, v, lr, memory = letters(here)
    kept, outputs, weights, anchor = kept_of(here), [], (CONTRAST * memory).softmax(-1), memory
    for t in range(TIME):
        anchor = weights if t % CHUNK == 0 else anchor
        g = outer(k[:, t], read(k[:, t], anchor) - v[:, t])
        weights = torch.softmax(kept[:, t] * weights.log() - lr[:, t] * g, dim=-1)
        outputs.append(read(q[:, t], weights))
    outputs_agree(here, rule, outputs, {"w": weights})


@pytest.mark.equation("miras", 30)
@pytest.mark.equation("miras", 31)
@pytest.mark.equation("miras", 32)
def test_a_chunk_of_memora_behind_its_lag_token_is_one_product_in_logarithms() -> None:
    """W_1 = softmax(alpha_1 log W_0 - eta_1 grad l(W_0)); behind it grad l(W_1; k_i, v_i) = k_i^T (k_i W_1 - v_i), and the chunk is

    softmax((beta_b / beta_1) log W_1 - K^T ((eta beta_b / beta) * (K W_1 - V))), the sum over the tokens behind the first.
    """
    once, here = _shares(1)
    rest = replace(once, update_every=None)
    _, k, v, lr, memory = letters(here)
    kept, expected, first = kept_of(here), torch.empty_like(memory), torch.empty_like(memory)
    for b in range(2):
        for h in range(2):
            begun = (CONTRAST * memory[b, h]).softmax(-1)
            g = torch.outer(k[b, 0, h], k[b, 0, h] @ begun - v[b, 0, h])
            first[b, h] = lag = (kept[b, 0, h] * begun.log() - lr[b, 0, h] * g).softmax(-1)
            keys, values = k[b, 1:, h], v[b, 1:, h]
            shares = torch.stack([lr[b, i, h, 0] * kept[b, i + 1 :, h, 0].prod() for i in range(1, TIME)])
            expected[b, h] = (kept[b, 1:, h].prod() * lag.log() - keys.T @ (shares * (keys @ lag - values))).softmax(-1)
    for engine in engines_of(rest):
        _, state, _ = engine.run(once, here.tokens.map(lambda x: x[:, :1]), here.start)
        assert_near(once.retention.expose(state.anchor)["w"], first, what=f"lag token of {engine}")
        _, state, _ = engine.run(rest, here.tokens.map(lambda x: x[:, 1:]), state)
        assert_near(rest.retention.expose(state.accumulator)["w"], expected, what=f"chunk of {engine}")


@pytest.mark.equation("miras", 31)
def test_the_gradient_at_a_lag_token_is_that_of_half_the_squared_error() -> None:
    """grad l(W_1; k_t, v_t) = k_t^T (k_t W_1 - v_t), by autograd."""
    rule, here = _shares(1)
    _, k, v, _, _ = letters(here)
    at = rule.retention.expose(here.start.anchor)["w"].clone().requires_grad_()
    for t in range(TIME):
        (g,) = torch.autograd.grad(rule.loss(read(k[:, t], at), v[:, t]).sum(), at)
        assert_near(g, outer(k[:, t], read(k[:, t], at) - v[:, t]))
