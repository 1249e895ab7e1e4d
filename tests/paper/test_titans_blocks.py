"""Titans sections 2.1, 3.3 and 4: projections, attention, persistent tokens and gating, against the formulas written out number by number."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor

from retain import Gates, NeuralMemory, Output, Projections, presets
from retain.blocks import LMM, MAC, MAG, MAL, AbstractMixer, AttentionOnly, Gating
from retain.layers.attention import Attention, AttentionMap
from tests.by_hand import outer, read
from tests.tolerances import assert_near

DIM, TIME = 4, 7
Mixer = TypeVar("Mixer", bound=AbstractMixer)


def stream(batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, TIME, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def every(x: Tensor) -> Tensor:
    return torch.full((x.shape[0],), x.shape[1])


def _attention(window: int) -> AttentionMap:
    """One head without positions: what a rotation would turn is zero, and all else turns by nothing."""
    torch.manual_seed(0)
    attention = Attention(heads=1, window=window, theta=1e40).build(DIM).double()
    with torch.no_grad():
        attention.to_q.weight[[0, DIM // 2]] = 0
    return attention


def _split(attention: AttentionMap) -> tuple[Tensor, Tensor, Tensor]:
    """W_Q, W_K, W_V, which multiply from the right."""
    w_k, w_v = attention.to_kv.weight.T.chunk(2, dim=1)
    return attention.to_q.weight.T, w_k, w_v


def _bare() -> NeuralMemory:
    """A layer that is a matrix, its projections and its rates, and nothing else."""
    bare = {"projections": Projections(conv=1, activation=None, norm=None), "output": Output(norm=None, gate=None, project=False)}
    return NeuralMemory(DIM, rule=presets.delta_net(), gates=Gates(lr=0.2), **bare)  # pyright: ignore[reportArgumentType]


def _remembered(memory: NeuralMemory, tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The answers of a bare memory to tokens [time, dim], each after its own write, and the weights behind them."""
    answers = []
    for token in tokens:
        q, k, v = (part.weight @ token for part in (memory.projections.to_q, memory.projections.to_k, memory.projections.to_v))
        lr = torch.sigmoid(memory.gates.weight[0] @ token + memory.gates.bias[0])
        weights = weights - lr * torch.outer(k, k @ weights - v)
        answers.append(q @ weights)
    return torch.stack(answers), weights


def _looked(attention: AttentionMap, token: Tensor, context: Tensor) -> Tensor:
    """What one token [dim] sees in a context [tokens, dim]."""
    w_q, w_k, w_v = _split(attention)
    shares = torch.exp(context @ w_k @ (token @ w_q) / DIM**0.5)
    return attention.to_out.weight @ (shares @ (context @ w_v) / shares.sum())


def _normed(x: Tensor, gain: Tensor | None) -> Tensor:
    assert gain is not None
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def _stirred(module: Mixer) -> Mixer:
    """In float64, with gains that do not stand at one."""
    module.double()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return module


NOTHING = torch.zeros(DIM, DIM, dtype=torch.float64)


# ---- section 2.1


@pytest.mark.equation("titans", 1)
@pytest.mark.equation("titans", 2)
@pytest.mark.equation("miras", 1)
@pytest.mark.equation("miras", 2)
def test_attention_over_all_tokens_is_a_softmax_of_products_of_projections() -> None:
    """Q = x W_Q, K = x W_K, V = x W_V, and y_i = sum over j <= i of exp(Q_i K_j^T / sqrt(d)) V_j / sum of exp(Q_i K_l^T / sqrt(d))."""
    attention, x = _attention(window=TIME), stream()
    w_q, w_k, w_v = _split(attention)
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    for found, expected in zip(attention.project(x), (q, k, v), strict=True):
        assert_near(found[:, :, 0], expected)
    y, _ = attention(x, attention.start(2), every(x))
    for b in range(2):
        for i in range(TIME):
            shares = [torch.exp((q[b, i] * k[b, j]).sum() / DIM**0.5) for j in range(i + 1)]
            summed = torch.stack([share * v[b, j] for j, share in enumerate(shares)]).sum(0) / torch.stack(shares).sum()
            assert_near(y[b, i], attention.to_out.weight @ summed)


# ---- section 3.1, the layer


@pytest.mark.equation("titans", 11)
@pytest.mark.equation("titans", 15)
def test_keys_values_and_queries_are_projections_of_the_token() -> None:
    """k_t = x_t W_K, v_t = x_t W_V, q_t = x_t W_Q, and the memory holds M(k_t) = v_t: a layer with nothing else around it."""
    torch.manual_seed(0)
    memory, x = _bare().double(), stream()
    y, state = memory(x)
    for b in range(2):
        answers, weights = _remembered(memory, x[b], NOTHING)
        assert_near(y[b], answers)
        assert_near(memory.retrieve(x[b : b + 1, 2:3], memory.weights(state[[b]]))[0][0, 0], memory.projections.to_q.weight @ x[b, 2] @ weights)


@pytest.mark.equation("titans", "section 4.4")
def test_a_layer_is_convolved_activated_normalised_and_gated() -> None:
    """q, k = l2(silu(conv(x W))), v = silu(conv(x W)), and W_o (norm(y) * silu(x W_g)) of the memory's answer y."""
    torch.manual_seed(0)
    memory, x = NeuralMemory(DIM, rule=presets.delta_net(), gates=Gates(lr=0.1)).double(), stream()
    kernel = memory.projections.conv
    assert kernel is not None
    assert memory.output.norm is not None
    assert memory.output.norm.weight is not None
    assert memory.output.to_gate is not None
    assert memory.output.to_out is not None
    with torch.no_grad():
        kernel.weight.add_(0.3 * torch.randn_like(kernel.weight))
    parts = []
    for i, part in enumerate((memory.projections.to_q, memory.projections.to_k, memory.projections.to_v)):
        z, own = x @ part.weight.T, kernel.weight[:, i * DIM : (i + 1) * DIM]
        mixed = torch.stack([torch.stack([own[j] * z[:, t - j] for j in range(min(4, t + 1))]).sum(0) for t in range(TIME)], dim=1)
        parts.append(mixed / (1 + torch.exp(-mixed)))
    q, k, v = parts
    q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    lr = torch.sigmoid(x @ memory.gates.weight.T + memory.gates.bias)
    weights, outputs = torch.zeros(2, 1, DIM, DIM, dtype=torch.float64), []
    for t in range(TIME):
        weights = weights - lr[:, t, :, None, None] * outer(k[:, t, None], read(k[:, t, None], weights) - v[:, t, None])
        outputs.append(read(q[:, t, None], weights)[:, 0])
    y = torch.stack(outputs, dim=1)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * memory.output.norm.weight[0]
    gate = x @ memory.output.to_gate.weight.T
    assert_near(memory(x)[0], (y * gate * torch.sigmoid(gate)) @ memory.output.to_out.weight.T)


# ---- section 3.3


@pytest.mark.equation("titans", 19)
def test_persistent_tokens_stand_before_every_stream_and_depend_on_none() -> None:
    """x_new = [p_1 .. p_N] || x: a memory that has read them goes on as if they were part of the stream, and they learn from it."""
    torch.manual_seed(0)
    rule = presets.titans(expansion=1.5, update_every=2)
    lmm = LMM(NeuralMemory(DIM, rule=rule, gates=Gates(lr=0.3)), persistent=3).double()
    assert lmm.persistent is not None
    for x in (stream(), stream(seed=2)):
        y, _ = lmm(x, lmm.start(2), every(x))
        state, found = None, []
        for token in (*lmm.persistent, *x.unbind(1)):
            answer, state = lmm.memory(token.expand(2, DIM).unsqueeze(1), state)
            found.append(answer)
        assert_near(y, torch.cat(found[3:], dim=1))
    (learnt,) = torch.autograd.grad(lmm(stream(), lmm.start(2), every(stream()))[0].sum(), lmm.persistent)
    assert all(bool(row.any()) for row in learnt)


@pytest.mark.equation("titans", 20)
def test_persistent_tokens_in_attention_are_a_feed_forward_layer_with_a_softmax() -> None:
    """FFN(x) = softmax(x W_K) W_V: what a token that sees itself alone takes from the persistent ones, whose keys are W_K and whose values are W_V."""
    attention, x = _attention(window=1), stream()
    mixer = AttentionOnly(attention, DIM, persistent=5).double()
    assert mixer.persistent is not None
    w_q, w_k, w_v = _split(attention)
    keys, values = mixer.persistent @ w_k / DIM**0.5, mixer.persistent @ w_v
    scores, own = (x @ w_q) @ keys.T, ((x @ w_q) * (x @ w_k)).sum(-1, keepdim=True) / DIM**0.5
    layer = torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True) @ values
    share = torch.exp(scores).sum(-1, keepdim=True) / (torch.exp(scores).sum(-1, keepdim=True) + torch.exp(own))
    y, _ = mixer(x, mixer.start(2), every(x))
    assert_near(y, (share * layer + (1 - share) * (x @ w_v)) @ attention.to_out.weight.T)


# ---- section 4


@pytest.mark.equation("titans", 25)
@pytest.mark.equation("titans", 28)
@pytest.mark.parametrize("kind", ["sigmoid", "silu", "add"])
def test_a_memory_gates_what_attention_says(kind: str) -> None:
    """y (x) m with both normalised by their root mean square and a learnt gain."""
    torch.manual_seed(0)
    gate = Gating(kind=kind).build(DIM).double()  # pyright: ignore[reportArgumentType]
    gains = torch.randn(2, DIM, dtype=torch.float64)
    gate.load_state_dict({"norm_y.weight": gains[0], "norm_m.weight": gains[1]})
    y, m = stream(), stream(seed=2)
    first, second = (part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain for part, gain in ((y, gains[0]), (m, gains[1])))
    opened = {"sigmoid": first / (1 + torch.exp(-second)), "silu": first * second / (1 + torch.exp(-second)), "add": first + second}
    assert_near(gate(y, m), opened[kind])


@pytest.mark.equation("titans", 21)
@pytest.mark.equation("titans", 22)
@pytest.mark.equation("titans", 23)
@pytest.mark.equation("titans", 24)
@pytest.mark.equation("titans", 25)
def test_segments_of_mac_go_through_retrieval_context_attention_storing_and_gating() -> None:
    """h = M*_{t-1}(S W_Q), [P || h || S], y = Attn of it, M_t = M_{t-1}(y) and o = y (x) M*_t(y), a memory of one matrix written out.

    A token sees of h and S what is not ahead of it, and the memory as it stands after it.
    """
    mac, x = _stirred(MAC(_bare(), _attention(window=3), persistent=2)), stream(1)
    assert isinstance(mac.attention, AttentionMap)
    assert mac.persistent is not None
    weights, found = NOTHING, []
    for start in range(0, TIME, 3):
        segment = x[0, start : start + 3]
        h = segment @ mac.memory.projections.to_q.weight.T @ weights
        for i in range(len(segment)):
            y = _looked(mac.attention, segment[i], torch.cat([mac.persistent, h[: i + 1], segment[: i + 1]]))
            y = _normed(y, mac.gate.norm_y.weight)
            m, weights = _remembered(mac.memory, y[None], weights)
            found.append(y * torch.sigmoid(_normed(m[0], mac.gate.norm_m.weight)))
    assert_near(mac(x, mac.start(1), every(x))[0][0], torch.stack(found))


@pytest.mark.equation("titans", 26)
@pytest.mark.equation("titans", 27)
@pytest.mark.equation("titans", 28)
def test_mag_is_a_window_gated_by_a_memory_of_everything() -> None:
    """x~ = P || x, y = SW-Attn*(x~) and o = y (x) M(x~), without the rows of P."""
    mag, x = _stirred(MAG(_bare(), _attention(window=3), persistent=2)), stream(1)
    assert isinstance(mag.attention, AttentionMap)
    assert mag.persistent is not None
    m, _ = _remembered(mag.memory, torch.cat([mag.persistent, x[0]]), NOTHING)
    found = []
    for i in range(TIME):
        y = _looked(mag.attention, x[0, i], torch.cat([mag.persistent, x[0, max(0, i - 2) : i + 1]]))
        found.append(_normed(y, mag.gate.norm_y.weight) * torch.sigmoid(_normed(m[2 + i], mag.gate.norm_m.weight)))
    assert_near(mag(x, mag.start(1), every(x))[0][0], torch.stack(found))


@pytest.mark.equation("titans", 29)
@pytest.mark.equation("titans", 30)
@pytest.mark.equation("titans", 31)
def test_mal_is_a_window_over_what_a_memory_answers() -> None:
    """x~ = P || x, y = M(x~) and o = SW-Attn(y), where the answers to P stay in sight."""
    mal, x = _stirred(MAL(_bare(), _attention(window=3), persistent=2)), stream(1)
    assert isinstance(mal.attention, AttentionMap)
    assert mal.persistent is not None
    m = _normed(_remembered(mal.memory, torch.cat([mal.persistent, x[0]]), NOTHING)[0], mal.norm.weight)
    found = [_looked(mal.attention, m[2 + i], torch.cat([m[:2], m[2 + max(0, i - 2) : 3 + i]])) for i in range(TIME)]
    assert_near(mal(x, mal.start(1), every(x))[0][0], torch.stack(found))


@pytest.mark.equation("titans", 27)
@pytest.mark.equation("titans", 31)
def test_a_token_sees_the_persistent_ones_and_its_window_and_nothing_else() -> None:
    """SW-Attn over P || x: token i sees P and the tokens from i - w + 1 to i."""
    attention, x = _attention(window=3), stream(1)
    mixer = AttentionOnly(attention, DIM, persistent=2).double()
    assert mixer.persistent is not None
    y, _ = mixer(x, mixer.start(1), every(x))
    for i in range(TIME):
        assert_near(y[0, i], _looked(attention, x[0, i], torch.cat([mixer.persistent, x[0, max(0, i - 2) : i + 1]])))
