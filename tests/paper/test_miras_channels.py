"""MIRAS section 5.4: Moneta, Yaad and Memora whose rates, thresholds and shares are vectors over the channels of a head, written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retain import MemoryRule, presets
from tests.by_hand import KEY, Weights, deep, engines_of, initial_of, letters
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
    w, outputs, anchor = matrices(lambda z: z.softmax(-1), initial_of(here)), [], {}
    for t in range(LONG):
        anchor = w if t % every == 0 else anchor
        g = gradient_of(lambda r: r.square().sum(-1) / 2, k[:, t], v[:, t], anchor)
        raised = _sum(_times(alpha[:, t], matrices(torch.log, w)), _times(eta[:, t], g), -1.0)
        w = matrices(lambda z: torch.exp(z) / torch.exp(z).sum(-1, keepdim=True), raised)
        outputs.append(deep(q[:, t], w))
    _agree(here, outputs, w)
