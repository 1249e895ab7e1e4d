"""Special cases are the published models: each recurrence is written out here by hand, in rows, from its formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import bias, learner, presets, retention, structure
from retain.core.contracts import AbstractLearner, AbstractRetention
from tests.by_hand import KEY, TIME, VALUE, agree, engines_of, letters, momentum_of, outer, read, stream_of
from tests.cases import JUDGE, named
from tests.streams import World, run, world
from tests.tolerances import assert_near


@pytest.mark.equation("titans", 4)
@pytest.mark.equation("titans", 5)
def test_titans_eq4_and_eq5_linear_attention() -> None:
    """M_t = M_{t-1} + k_t^T v_t and y_t = q_t M_t; from nothing, y_t = sum over j <= t of (q_t k_j) v_j."""
    rule = presets.linear_attention()
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, lr=torch.ones_like(here.tokens.lr)))
    q, k, v, _, memory = letters(here)
    outputs = []
    for t in range(TIME):
        memory = memory + outer(k[:, t], v[:, t])
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    empty = replace(here, initial={"w": torch.zeros_like(here.initial["w"])})
    attention = torch.einsum("bthk,bshk->bhts", q, k).tril()
    agree(empty, rule, list(torch.einsum("bhts,bshv->bthv", attention, v).unbind(1)), memory - here.initial["w"])


@pytest.mark.equation("miras", 3)
@pytest.mark.equation("miras", 8)
def test_miras_eq8_retnet() -> None:
    """M_t = alpha_t M_{t-1} + k_t^T v_t."""
    rule = presets.retnet()
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    outputs = []
    assert here.tokens.retain is not None
    for t in range(TIME):
        memory = here.tokens.retain[:, t, :, None, None] * memory + lr[:, t] * outer(k[:, t], v[:, t])
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("titans", 34)
@pytest.mark.equation("miras", 9)
def test_titans_eq34_delta_net() -> None:
    """M_t = (I - theta_t k_t^T k_t) M_{t-1} + theta_t k_t^T v_t."""
    rule = presets.delta_net()
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    outputs = []
    for t in range(TIME):
        step = torch.eye(KEY, dtype=torch.float64) - lr[:, t] * outer(k[:, t], k[:, t])
        memory = step @ memory + lr[:, t] * outer(k[:, t], v[:, t])
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    titans = replace(rule, learner=learner.Momentum(), retention=retention.Decay())
    still = {"momentum": torch.zeros(*here.tokens.lr.shape[:3], 1, dtype=torch.float64), "retain": torch.ones_like(here.tokens.lr[..., 0])}
    agree(replace(here, tokens=replace(here.tokens, **still)), titans, outputs, memory)
    linear_ttt = replace(rule, structure=structure.MLP(depth=1))
    agree(replace(here, initial={"w0": here.initial["w"]}), linear_ttt, outputs, memory, weight="w0")


@pytest.mark.equation("miras", 9)
@pytest.mark.equation("titans", 34)
def test_gated_delta_net_takes_its_gradient_at_the_decayed_memory() -> None:
    """M_t = alpha_t (I - theta_t k_t^T k_t) M_{t-1} + theta_t k_t^T v_t; Titans without momentum differs by alpha theta k^T k M."""
    rule = presets.gated_delta_net()
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    assert here.tokens.retain is not None
    outputs, before, t = [], memory, 0
    for t in range(TIME):
        step = torch.eye(KEY, dtype=torch.float64) - lr[:, t] * outer(k[:, t], k[:, t])
        before = memory
        memory = here.tokens.retain[:, t, :, None, None] * (step @ memory) + lr[:, t] * outer(k[:, t], v[:, t])
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    undecayed = replace(rule, retention=retention.Decay())
    last = here.tokens.map(lambda x: x[:, t:])
    _, after, _ = JUDGE.run(undecayed, last, replace(run(here, [JUDGE]).state, anchor={"w": before}, accumulator={"w": before}))
    difference = -(1 - here.tokens.retain[:, t, :, None, None]) * lr[:, t] * (outer(k[:, t], k[:, t]) @ before)
    assert_near(after.accumulator["w"] - memory, difference)
    assert difference.abs().max() > 1e-4


@pytest.mark.equation("titans", 32)
@pytest.mark.equation("titans", 33)
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_titans_eq32_and_eq33_memory_with_momentum_and_forgetting(scale: float) -> None:
    """S_t = eta_t S_{t-1} - theta_t k_t^T (k_t M_{t-1} - v_t) and M_t = (1 - alpha_t) M_{t-1} + S_t (half loss; the full loss of eq. 12 doubles it)."""
    rule = replace(presets.delta_net(), learner=learner.Momentum(), retention=retention.Decay(), bias=bias.L2(scale=scale))
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    assert here.tokens.retain is not None
    assert here.tokens.momentum is not None
    surprise, outputs = torch.zeros_like(memory), []
    for t in range(TIME):
        error = read(k[:, t], memory) - v[:, t]
        surprise = here.tokens.momentum[:, t, :, :, None] * surprise - 2 * scale * lr[:, t] * outer(k[:, t], error)
        memory = here.tokens.retain[:, t, :, None, None] * memory + surprise
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("titans", 32)
@pytest.mark.equation("titans", 33)
def test_titans_eq32_and_eq33_with_a_rate_and_a_decay_for_each_channel_of_the_values() -> None:
    """S_t = eta_t S_{t-1} - k_t^T (k_t M_{t-1} - v_t) diag(theta_t), M_t = M_{t-1} diag(1 - alpha_t) + S_t; eta_t is one number a head."""
    momentum = learner.PerChannel(inner=learner.Momentum())
    rule = replace(presets.delta_net(), learner=momentum, retention=retention.OuterDecay())
    here, source = stream_of(rule), torch.Generator().manual_seed(1)
    channels, columns = (torch.rand(2, TIME, 2, VALUE, generator=source, dtype=torch.float64) for _ in range(2))
    tokens = replace(here.tokens, channels=channels, retain=torch.cat([torch.ones(2, TIME, 2, KEY, dtype=torch.float64), columns], dim=-1))
    here = replace(here, tokens=tokens)
    q, k, v, lr, memory = letters(here)
    eta, surprise, outputs = momentum_of(here), torch.zeros_like(memory), []
    for t in range(TIME):
        theta = lr[:, t] * channels[:, t, :, None, :]
        surprise = eta[:, t] * surprise - theta * outer(k[:, t], read(k[:, t], memory) - v[:, t])
        memory = columns[:, t, :, None, :] * memory + surprise
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


@pytest.mark.equation("ttt", 6)
@pytest.mark.parametrize("every", [1, 4])
def test_ttt_eq6_linear_with_norm_and_residual(every: int) -> None:
    """W_t = W_{t-1} - theta_t dl/dW at the weights of the last mini-batch, f(x) = x + (1 + g) LN(x W); TTT's own layer norm has a slow gain."""
    rule = presets.ttt_linear(update_every=every)
    here = stream_of(rule, value=KEY)
    q, k, v, lr, matrix = letters(here)
    gain = here.initial["gain"].expand(2, 2, KEY)

    def net(x: Tensor, w: Tensor, g: Tensor) -> Tensor:
        y = read(x, w)
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x + (1 + g) * y

    outputs, anchor = [], (matrix, gain)
    for t in range(TIME):
        if t % every == 0:
            anchor = (matrix, gain)
        leaves = [w.detach().requires_grad_() for w in anchor]
        loss = 0.5 * (net(k[:, t], *leaves) - v[:, t]).square().sum()
        by_matrix, by_gain = torch.autograd.grad(loss, leaves)
        matrix, gain = matrix - lr[:, t] * by_matrix, gain - lr[:, t, :, 0] * by_gain
        outputs.append(net(q[:, t], matrix, gain))
    agree(here, rule, outputs, matrix, weight="w0")
    agree(here, rule, outputs, gain, weight="gain")


@pytest.mark.equation("ttt", "theorem 1")
def test_ttt_theorem1_one_batch_is_linear_attention() -> None:
    """From nothing, gradients at W_0 for ever, a rate of 1/2 and the full loss: y_t = sum over j <= t of (q_t k_j) v_j."""
    rule = replace(presets.delta_net(), bias=bias.L2(scale=1.0), update_every=None)
    here = stream_of(rule)
    here = replace(here, initial={"w": torch.zeros_like(here.initial["w"])}, tokens=replace(here.tokens, lr=torch.full_like(here.tokens.lr, 0.5)))
    q, k, v, _, _ = letters(here)
    attention = torch.einsum("bthk,bshk->bhts", q, k).tril()
    agree(here, rule, list(torch.einsum("bhts,bshv->bthv", attention, v).unbind(1)), torch.einsum("bshk,bshv->bhkv", k, v))


@pytest.mark.equation("ttt", 8)
def test_ttt_eq8_dual_form_of_one_batch() -> None:
    """Z = Q W_0 - (mask(Q K^T) diag(theta)) (K W_0 - V), mask lower triangular with the diagonal."""
    rule = replace(presets.delta_net(), update_every=None)
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    error = lr[..., 0] * (torch.einsum("bthk,bhkv->bthv", k, memory) - v)
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    outputs = torch.einsum("bthk,bhkv->bthv", q, memory) - torch.einsum("bhts,bshv->bthv", scores, error)
    agree(here, rule, list(outputs.unbind(1)), memory - torch.einsum("bshk,bshv->bhkv", k, error))


@pytest.mark.equation("titans", 9)
@pytest.mark.equation("titans", 10)
def test_titans_eq10_momentum_in_closed_form() -> None:
    """A constant gradient g and constant gates: S_t = -theta g (1 - eta^t) / (1 - eta)."""
    rule = replace(presets.linear_attention(), learner=learner.Momentum())
    here, eta, theta = stream_of(rule), 0.7, 0.05
    tokens = here.tokens.map(lambda x: x[:, :1].expand_as(x))
    tokens = replace(tokens, lr=torch.full_like(tokens.lr, theta), momentum=torch.full((2, TIME, 2, 1), eta, dtype=torch.float64))
    here = replace(here, tokens=tokens)
    gradient = -outer(tokens.k[:, 0, :, 0], tokens.v[:, 0, :, 0])
    for engine in engines_of(rule):
        state = run(here, [engine]).state
        assert_near(state.moments[0]["w"], -theta * gradient * (1 - eta**TIME) / (1 - eta))
        moved = sum((1 - eta**t) / (1 - eta) for t in range(1, TIME + 1))
        assert_near(state.accumulator["w"] - here.initial["w"], -theta * gradient * moved)


@pytest.mark.equation("titans", 16)
def test_titans_eq16_a_chunk_in_closed_form() -> None:
    """M_t = beta_t M_0 - sum over i <= t of theta_i (beta_t / beta_i) grad l(M_0; x_i), beta_i the product of the kept shares up to i."""
    rule = replace(presets.delta_net(), retention=retention.Decay(), update_every=TIME)
    here = stream_of(rule)
    kept = 0.5 + 0.5 * torch.rand(2, TIME, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    here = replace(here, tokens=replace(here.tokens, retain=kept))
    q, k, v, lr, memory = letters(here)
    beta = kept.cumprod(1)
    gradients = torch.stack([outer(k[:, i], read(k[:, i], memory) - v[:, i]) for i in range(TIME)], dim=1)
    outputs, last = [], memory
    for t in range(TIME):
        shares = lr[:, : t + 1] * (beta[:, t : t + 1] / beta[:, : t + 1])[..., None, None]
        last = beta[:, t, :, None, None] * memory - (shares * gradients[:, : t + 1]).sum(1)
        outputs.append(read(q[:, t], last))
    agree(here, rule, outputs, last)


@pytest.mark.equation("titans", 17)
def test_titans_eq17_the_gradient_of_a_chunk_as_one_product() -> None:
    """W_b = beta_b W_0 - K^T diag(theta_i beta_b / beta_i) (K W_0 - V)."""
    rule = replace(presets.delta_net(), retention=retention.Decay(), update_every=TIME)
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, retain=torch.full((2, TIME, 2), 0.9, dtype=torch.float64)))
    _, k, v, lr, memory = letters(here)
    beta = 0.9 ** torch.arange(1, TIME + 1, dtype=torch.float64)
    share = lr[..., 0] * (beta[-1] / beta)[None, :, None, None]
    error = torch.einsum("bthk,bhkv->bthv", k, memory) - v
    expected = beta[-1] * memory - torch.einsum("bthk,bthv->bhkv", k, share * error)
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).state.accumulator["w"], expected)


@pytest.mark.equation("titans", 8)
@pytest.mark.equation("titans", 15)
def test_titans_eq8_a_full_rate_overwrites_exactly() -> None:
    """Full loss, a key of length one and a rate of 1/2: the memory answers its last key with its last value."""
    rule = replace(presets.delta_net(), bias=bias.L2(scale=1.0))
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, lr=torch.full_like(here.tokens.lr, 0.5), q=here.tokens.k[:, :, :, 0]))
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).y, here.tokens.v[:, :, :, 0])


def test_momentum_of_nothing_is_plain_gradient() -> None:
    rule = replace(presets.titans(expansion=1.5, update_every=4), learner=learner.Gradient())
    here, with_momentum = stream_of(rule, value=KEY), replace(rule, learner=learner.Momentum())
    zero = replace(here.tokens, momentum=torch.zeros(2, TIME, 2, 1, dtype=torch.float64))
    for engine in engines_of(with_momentum):
        expected = run(here, [JUDGE])
        assert_near(run(replace(here, rule=with_momentum, tokens=zero), [engine]).y, expected.y)


def test_a_decay_for_each_channel_with_one_rate_is_one_decay() -> None:
    rule = replace(presets.gated_delta_net(), retention=retention.Decay())
    here = stream_of(rule)
    assert here.tokens.retain is not None
    channels = replace(here.tokens, retain=here.tokens.retain[..., None].expand(2, TIME, 2, KEY))
    by_channel = replace(rule, retention=retention.ChannelDecay())
    for engine in engines_of(by_channel):
        assert_near(run(replace(here, rule=by_channel, tokens=channels), [engine]).y, run(here, [JUDGE]).y)


@pytest.mark.parametrize("link", [retention.Lq(), retention.Lq(q=1.5, link="exact"), retention.KL(), retention.KL(total=3.0, over="all")], ids=named)
def test_a_link_with_one_number_for_all_channels_is_the_link(link: AbstractRetention) -> None:
    rule = replace(presets.titans(expansion=1.5, update_every=4), retention=link)
    here = stream_of(rule, value=KEY)
    assert here.tokens.retain is not None
    here = replace(here, tokens=replace(here.tokens, retain=here.tokens.retain.clamp(min=0.5)))
    by_channel = replace(rule, retention=retention.PerChannel(inner=link))
    channels = replace(here.tokens, retain=_for_each(here.tokens.retain, KEY))
    _same_stream(here, replace(here, rule=by_channel, tokens=channels))


@pytest.mark.parametrize("inner", [learner.Gradient(), learner.Momentum(order=2)], ids=named)
def test_one_number_for_all_channels_of_an_update_is_a_rate(inner: AbstractLearner) -> None:
    rule = replace(presets.titans(expansion=1.5, update_every=4), learner=inner)
    here, share = stream_of(rule, value=KEY), 0.3 + torch.rand(2, TIME, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slower = replace(here, tokens=replace(here.tokens, lr=share[..., None] * here.tokens.lr))
    by_channel = replace(rule, learner=learner.PerChannel(inner=inner))
    _same_stream(slower, replace(here, rule=by_channel, tokens=replace(here.tokens, channels=_for_each(share, KEY))))


@pytest.mark.parametrize("window", [1, 3])
def test_one_threshold_for_all_channels_is_that_of_the_token(window: int) -> None:
    def held(scaled: Literal["by token", "by channel"]) -> bias.Omega:
        return bias.Omega(inner=bias.Huber(kind="coordinate", threshold=0.7, scaled=scaled), window=window)

    rule = replace(presets.titans(expansion=1.5, update_every=4), bias=held("by token"))
    here = stream_of(rule, value=KEY)
    assert here.tokens.threshold is not None
    by_channel = replace(here.tokens, threshold=_for_each(here.tokens.threshold, KEY))
    _same_stream(here, replace(here, rule=replace(rule, bias=held("by channel")), tokens=by_channel))


def _for_each(gate: Tensor, channels: int) -> Tensor:
    return gate[..., None].expand(*gate.shape, channels)


def _same_stream(expected: World, here: World) -> None:
    whole = run(expected, [JUDGE])
    for engine in engines_of(here.rule):
        found = run(here, [engine])
        assert_near(found.y, whole.y, what=f"outputs of {engine}")
        assert_near(found.surprise, whole.surprise, what=f"surprise of {engine}")


@pytest.mark.parametrize("net", [structure.Matrix(), structure.MLP(depth=2, expansion=1.5)], ids=["matrix", "deep"])
def test_a_chunk_is_an_approximation_of_online_learning_and_not_a_tiling(net: structure.Matrix | structure.MLP) -> None:
    online = replace(presets.delta_net(), structure=net)
    here = stream_of(online)
    truth, chunked = run(here, [JUDGE]), replace(online, update_every=4)
    for engine in engines_of(chunked):
        outcome = run(replace(here, rule=chunked), [engine])
        assert_near(outcome.y[:, :1], truth.y[:, :1])
        assert (outcome.y - truth.y)[:, 1:].abs().max() > 1e-3
    for engine in engines_of(online):
        assert_near(run(here, [engine]).y, truth.y)


def test_steps_of_several_tokens_sum_their_gradients_and_take_the_gates_of_the_last() -> None:
    rule = replace(presets.delta_net(), learner=learner.Momentum(), retention=retention.Decay(), update_every=6, step_every=3)
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    assert here.tokens.retain is not None
    assert here.tokens.momentum is not None
    outputs, surprise, anchor, update = [], torch.zeros_like(memory), memory, torch.zeros_like(memory)
    for t in range(TIME):
        anchor = memory if t % 6 == 0 else anchor
        update = update + lr[:, t] * outer(k[:, t], read(k[:, t], anchor) - v[:, t])
        if t % 3 == 2:
            surprise = here.tokens.momentum[:, t, :, :, None] * surprise - update
            memory = here.tokens.retain[:, t, :, None, None] * memory + surprise
            update = torch.zeros_like(memory)
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)


def test_several_pairs_of_a_token_are_one_step() -> None:
    rule = presets.delta_net()
    here = world(rule, 0, batch=2, time=5, heads=2, key=KEY, value=VALUE, pairs=2)
    assert here.tokens.q is not None
    memory, outputs = here.initial["w"].expand(2, 2, KEY, VALUE), []
    for t in range(5):
        k, v, lr = here.tokens.k[:, t], here.tokens.v[:, t], here.tokens.lr[:, t]
        error = lr[..., None] * (k @ memory - v)
        memory = memory - k.transpose(-1, -2) @ error
        outputs.append(read(here.tokens.q[:, t], memory))
    agree(here, rule, outputs, memory)


def test_a_deep_memory_learns_by_the_gradient_of_its_own_network() -> None:
    """Two layers with GELU, the gradient written out by the chain rule through autograd, one anchor for four tokens."""
    rule = replace(presets.delta_net(), structure=structure.MLP(depth=2, expansion=1.5), update_every=4)
    here = stream_of(rule)
    q, k, v, lr, first = letters(here)
    second = here.initial["w1"].expand(2, *here.initial["w1"].shape)
    net = lambda x, a, b: read(F.gelu(read(x, a)), b)  # noqa: E731
    outputs, anchor = [], (first, second)
    for t in range(TIME):
        anchor = (first, second) if t % 4 == 0 else anchor
        leaves = [w.detach().requires_grad_() for w in anchor]
        steps = torch.autograd.grad(0.5 * (net(k[:, t], *leaves) - v[:, t]).square().sum(), leaves)
        first, second = first - lr[:, t] * steps[0], second - lr[:, t] * steps[1]
        outputs.append(net(q[:, t], first, second))
    agree(here, rule, outputs, second, weight="w1")
