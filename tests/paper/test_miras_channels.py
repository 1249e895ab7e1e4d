"""MIRAS section 5.4: Moneta, Yaad and Memora whose rates, thresholds and shares are vectors over the channels of a head, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from retain import MemoryRule, bias, learner, presets, retention
from retain.core.tokens import Step
from tests.by_hand import KEY, Weights, agree, deep, engines_of, initial_of, letters, outer, read
from tests.paper.test_miras_models import gradient_of, matrices, norm
from tests.streams import World, run, world
from tests.tolerances import assert_near

LONG = 20
EVERY = pytest.mark.parametrize("every", [1, 4])


def _stream(rule: MemoryRule) -> World:
    return world(rule, 0, batch=2, time=LONG, heads=2, key=KEY, value=KEY)


def _given(gate: Tensor | None) -> Tensor:
    assert gate is not None
    return gate


def _times(gate: Tensor, weights: Weights) -> Weights:
    """Diag(gate) on the side that is as wide as a head: the rows of the first matrix, the columns of the second, and the gain."""
    return {"w0": gate[..., :, None] * weights["w0"], "w1": gate[..., None, :] * weights["w1"], "gain": gate * weights["gain"]}


def _sum(a: Weights, b: Weights, times: float) -> Weights:
    return {name: w + times * b[name] for name, w in a.items()}


def _agree(here: World, outputs: list[Tensor], exposed: Weights) -> None:
    engines = engines_of(here.rule)
    assert {engine.name for engine in engines} == {"materialised", "recurrent"}
    for engine in engines:
        outcome = run(here, [engine])
        assert_near(outcome.y, torch.stack(outputs, dim=1), what=f"outputs of {engine}")
        for name, w in here.rule.retention.expose(outcome.state.accumulator).items():
            assert_near(w, exposed[name], what=f"{name} of {engine}")


@EVERY
@pytest.mark.equation("miras", 24)
def test_moneta_by_channel(every: int) -> None:
    """A_t = Diag(alpha_t) A_{t-1} - Diag(eta_t) grad l_p(W*; k_t, v_t) and W_t = A_t / |A_t|_4^2, from weights of norm one."""
    here = _stream(presets.moneta(update_every=every, gates="channel"))
    q, k, v, lr, _ = letters(here)
    alpha, eta = _given(here.tokens.retain), lr[..., 0] * _given(here.tokens.channels)
    a, outputs, anchor = matrices(lambda w: w / norm(w, 4), initial_of(here)), [], {}
    for t in range(LONG):
        anchor = matrices(lambda w: w / norm(w, 4) ** 2, a) if t % every == 0 else anchor
        g = gradient_of(lambda r: ((r**2 + 1e-6) ** 1.5).sum(-1), k[:, t], v[:, t], anchor)
        a = _sum(_times(alpha[:, t], a), _times(eta[:, t], g), -1.0)
        outputs.append(deep(q[:, t], matrices(lambda w: w / norm(w, 4) ** 2, a)))
    _agree(here, outputs, matrices(lambda w: w / norm(w, 4) ** 2, a))


@EVERY
@pytest.mark.equation("miras", 14)
@pytest.mark.equation("miras", 26)
def test_yaad_by_channel(every: int) -> None:
    """W_t = Diag(alpha_t) W_{t-1} - Diag(eta_t) grad l(W*; k_t, v_t), the error of each coordinate j clipped to delta_t,j."""
    here = _stream(presets.yaad(threshold=1.5, update_every=every, gates="channel"))
    q, k, v, lr, _ = letters(here)
    alpha, eta, delta = _given(here.tokens.retain), lr[..., 0] * _given(here.tokens.channels), 1.5 * _given(here.tokens.threshold)[:, :, :, 0]
    w, outputs, anchor, large = initial_of(here), [], {}, []
    for t in range(LONG):
        anchor = w if t % every == 0 else anchor
        near = ((deep(k[:, t], anchor) - v[:, t]).abs() <= delta[:, t]).detach()
        g = gradient_of(lambda r, t=t, near=near: torch.where(near, r**2 / 2, delta[:, t] * r.abs()).sum(-1), k[:, t], v[:, t], anchor)
        w = _sum(_times(alpha[:, t], w), _times(eta[:, t], g), -1.0)
        outputs.append(deep(q[:, t], w))
        large.append(~near)
    assert 0.2 < torch.stack(large).double().mean() < 0.8
    _agree(here, outputs, w)


@EVERY
@pytest.mark.equation("miras", 27)
def test_memora_by_channel(every: int) -> None:
    """W_t = softmax(Diag(alpha_t) log W_{t-1} - Diag(eta_t) grad l_2(W*; k_t, v_t)), the logarithms of the weights themselves; gains decay."""
    here = _stream(presets.memora(update_every=every, gates="channel"))
    q, k, v, lr, _ = letters(here)
    alpha, eta = _given(here.tokens.retain), lr[..., 0] * _given(here.tokens.channels)
    w, outputs, anchor = matrices(lambda z: (3.0 * z).softmax(-1), initial_of(here)), [], {}
    for t in range(LONG):
        anchor = w if t % every == 0 else anchor
        g = gradient_of(lambda r: r.square().sum(-1) / 2, k[:, t], v[:, t], anchor)
        raised = _sum(_times(alpha[:, t], matrices(torch.log, w)), _times(eta[:, t], g), -1.0)
        w = matrices(lambda z: torch.exp(z) / torch.exp(z).sum(-1, keepdim=True), raised)
        outputs.append(deep(q[:, t], w))
    _agree(here, outputs, w)


@pytest.mark.equation("miras", 21)
@pytest.mark.parametrize("over", ["all", "slice"])
def test_shares_of_a_sum_let_go_by_channel(over: Literal["all", "slice"]) -> None:
    """W_t = c softmax(Diag(alpha_t) log W_{t-1} + Delta_t) with c = 3, from logarithms up to a constant; a row for each channel."""
    source, axes = torch.Generator().manual_seed(0), (-2, -1) if over == "all" else (-1,)
    z, delta, alpha = (torch.randn(1, *shape, generator=source, dtype=torch.float64) for shape in ((3, 4), (3, 4), (3,)))
    alpha, gate = alpha.sigmoid(), retention.PerChannel(inner=retention.KL(total=3.0, over=over))
    w = 3 * z.exp() / z.exp().sum(axes, keepdim=True)
    accumulator = gate.start({"w": z}, lead=1)
    for _ in range(3):
        raised = torch.exp(alpha.unsqueeze(-1) * w.log() + delta)
        w = 3 * raised / raised.sum(axes, keepdim=True)
        accumulator = gate.moved(accumulator, {"w": delta}, Step(retain=alpha), lead=1)
        assert_near(gate.expose(accumulator, lead=1)["w"], w)


@pytest.mark.equation("miras", 14)
def test_associations_learnt_in_turn_have_thresholds_of_their_own() -> None:
    """W_j = W_{j-1} - eta_j k_j^T clip(k_j W_{j-1} - v_j, delta_j) for each association j of a token, the first of which forgets."""
    held = bias.Huber(kind="coordinate", threshold=0.7, scaled="by channel")
    rule = replace(presets.delta_net(), bias=held, retention=retention.Decay(), learner=learner.InTurn())
    here = world(rule, 0, batch=2, time=LONG, heads=2, key=KEY, value=KEY, pairs=2)
    q, _, _, _, w = letters(here)
    alpha, delta, outputs = _given(here.tokens.retain), 0.7 * _given(here.tokens.threshold), []
    k, v, rates = here.tokens.k, here.tokens.v, here.tokens.lr
    for t in range(LONG):
        for j in range(2):
            r = read(k[:, t, :, j], w) - v[:, t, :, j]
            step = outer(k[:, t, :, j], r.clamp(-delta[:, t, :, j], delta[:, t, :, j]))
            w = (alpha[:, t, :, None, None] if j == 0 else 1) * w - rates[:, t, :, j, None, None] * step
        outputs.append(read(q[:, t], w))
    agree(here, rule, outputs, w)
