"""Titans sections 2.1, 3.1, 3.2 and appendix C: the memory, its steps and its chunks, against the formulas written out token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import Gates, NeuralMemory, bias, learner, presets, retention, structure
from tests.by_hand import (
    KEY,
    TIME,
    VALUE,
    Weights,
    agree,
    agree_in_all,
    between,
    deep,
    engines_of,
    initial_of,
    kept_of,
    letters,
    like,
    momentum_of,
    outer,
    read,
    stream_of,
)
from tests.streams import run
from tests.tolerances import assert_near

CHUNK = 4


def gradient_of(k: Tensor, v: Tensor, weights: Weights) -> Weights:
    """The gradient of half the squared error of a deep memory, by autograd."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    loss = (deep(k, leaves) - v).square().sum() / 2
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


# ---- section 2.1


@pytest.mark.equation("titans", 3)
def test_kernel_attention_is_a_memory_of_features_whose_values_end_in_one() -> None:
    """y_i = sum over j <= i of phi(q_i) phi(k_j)^T v_j / sum over l <= i of phi(q_i) phi(k_l)^T."""
    rule = presets.linear_attention()
    here = stream_of(rule)
    q, k, v, _, _ = letters(here)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    ended = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    tokens = replace(here.tokens, q=q, k=k.unsqueeze(3), v=ended.unsqueeze(3), lr=torch.ones_like(here.tokens.lr))
    here = replace(here, tokens=tokens, initial={"w": torch.zeros(2, KEY, VALUE + 1, dtype=torch.float64)})
    expected = []
    for i in range(TIME):
        likeness = (q[:, i : i + 1] * k[:, : i + 1]).sum(-1, keepdim=True)
        expected.append((likeness * v[:, : i + 1]).sum(1) / likeness.sum(1))
    for engine in engines_of(rule):
        y = run(here, [engine]).y
        assert_near(y[..., :-1] / y[..., -1:], torch.stack(expected, dim=1))


@pytest.mark.equation("titans", 6)
@pytest.mark.equation("titans", 7)
@pytest.mark.equation("titans", 15)
@pytest.mark.parametrize("reads", ["after", "before"])
def test_a_token_is_written_into_a_state_and_read_from_it(reads: str) -> None:
    """M_t = f(M_{t-1}, x_t) and y_t = g(M_t, x_t): nothing but the state goes from token to token, and an answer is a plain read of it."""
    rule = replace(presets.titans(expansion=1.5, update_every=1), reads=reads)  # pyright: ignore[reportArgumentType]
    here = stream_of(rule, value=KEY)
    q, *_ = letters(here)
    for engine in engines_of(rule):
        whole, state = run(here, [engine]), here.start
        for t in range(TIME):
            before = state
            y, state, _ = engine.run(rule, here.tokens.map(lambda x, t=t: x[:, t : t + 1]), before)
            held = before if reads == "before" else state
            assert_near(y[:, 0], deep(q[:, t], dict(held.accumulator)))
            assert_near(y[:, 0], whole.y[:, t])


# ---- section 3.1


@pytest.mark.equation("titans", 8)
@pytest.mark.equation("miras", 5)
@pytest.mark.equation("miras", 6)
def test_momentary_surprise_is_one_gradient_step_of_each_loss_of_the_stream() -> None:
    """M_t = M_{t-1} - theta_t grad l(M_{t-1}; x_t), and what is told as surprise is l(M_{t-1}; x_t)."""
    rule = replace(presets.titans(expansion=1.5, update_every=1), learner=learner.Gradient(), retention=retention.Keep())
    here = stream_of(rule, value=KEY)
    q, k, v, lr, _ = letters(here)
    weights, outputs, losses = initial_of(here), [], []
    for t in range(TIME):
        losses.append((deep(k[:, t], weights) - v[:, t]).square().sum(-1) / 2)
        g = gradient_of(k[:, t], v[:, t], weights)
        weights = {name: w - like(lr[:, t], w) * g[name] for name, w in weights.items()}
        outputs.append(deep(q[:, t], weights))
    agree_in_all(here, rule, outputs, weights)
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).surprise, torch.stack(losses, dim=1))


@pytest.mark.equation("titans", 12)
def test_the_associative_loss_is_the_squared_length_of_the_error() -> None:
    """l(M; x_t) = |M(k_t) - v_t|^2, whose gradient for a matrix is 2 k^T (k M - v)."""
    rule = replace(presets.delta_net(), bias=bias.L2(scale=1.0))
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    losses, outputs = [], []
    for t in range(TIME):
        error = torch.stack([(k[:, t, h, None] @ memory[:, h])[:, 0] for h in range(2)], dim=1) - v[:, t]
        losses.append((error * error).sum(-1))
        memory = memory - lr[:, t] * 2 * outer(k[:, t], error)
        outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).surprise, torch.stack(losses, dim=1))


def _surprise_and_forgetting(every: int) -> None:
    rule = presets.titans(expansion=1.5, update_every=every)
    here = stream_of(rule, value=KEY)
    q, k, v, lr, _ = letters(here)
    kept, lingers = kept_of(here), momentum_of(here)
    weights = anchor = initial_of(here)
    surprise, outputs = {name: torch.zeros_like(w) for name, w in weights.items()}, []
    for t in range(TIME):
        anchor = weights if t % every == 0 else anchor
        g = gradient_of(k[:, t], v[:, t], anchor)
        surprise = {name: like(lingers[:, t], s) * s - like(lr[:, t], s) * g[name] for name, s in surprise.items()}
        weights = {name: like(kept[:, t], w) * w + surprise[name] for name, w in weights.items()}
        outputs.append(deep(q[:, t], weights))
    agree_in_all(here, rule, outputs, weights)


@pytest.mark.equation("titans", 13)
@pytest.mark.equation("titans", 14)
def test_past_surprise_lingers_and_the_memory_forgets() -> None:
    """S_t = eta_t S_{t-1} - theta_t grad l(M_{t-1}; x_t) and M_t = (1 - alpha_t) M_{t-1} + S_t, for a memory of two layers."""
    _surprise_and_forgetting(every=1)


@pytest.mark.equation("titans", 13)
def test_a_memory_that_forgets_everything_is_its_surprise_and_one_that_forgets_nothing_the_sum() -> None:
    """alpha = 1 leaves M_t = S_t, alpha = 0 leaves M_t = M_0 + S_1 + .. + S_t."""
    rule = replace(presets.titans(update_every=1), structure=structure.Matrix())
    here = stream_of(rule)
    for share in (0.0, 1.0):
        told = replace(here, tokens=replace(here.tokens, retain=torch.full((2, TIME, 2), share, dtype=torch.float64)))
        for engine in engines_of(rule):
            surprises, state = [], told.start
            for t in range(TIME):
                _, state, _ = engine.run(rule, told.tokens.map(lambda x, t=t: x[:, t : t + 1]), state)
                surprises.append(state.moments[0]["w"])
            expected = surprises[-1] if share == 0 else told.start.accumulator["w"] + torch.stack(surprises).sum(0)
            assert_near(state.accumulator["w"], expected)


@pytest.mark.equation("titans", 15)
def test_a_read_is_a_forward_pass_that_leaves_the_memory_alone() -> None:
    """y_t = M*(q_t)."""
    rule = presets.titans(expansion=1.5, update_every=CHUNK)
    here = stream_of(rule, value=KEY)
    q, *_ = letters(here)
    silent = replace(here, tokens=replace(here.tokens, write=torch.zeros(2, TIME, dtype=torch.bool)))
    weights = initial_of(here)
    agree_in_all(silent, rule, [deep(q[:, t], weights) for t in range(TIME)], weights)


# ---- section 3.2


@pytest.mark.equation("titans", 16)
@pytest.mark.equation("miras", 28)
def test_each_chunk_of_a_deep_memory_in_closed_form() -> None:
    """M_t = beta_t M_0 - sum of theta_i (beta_t / beta_i) grad l(M_0; x_i), M_0 the memory at the chunk's start, where beta begins anew."""
    rule = replace(presets.titans(expansion=1.5, update_every=CHUNK), learner=learner.Gradient())
    here = stream_of(rule, value=KEY)
    q, k, v, lr, _ = letters(here)
    kept, weights, outputs = kept_of(here), initial_of(here), []
    for start in range(0, TIME, CHUNK):
        begun, gradients = weights, []
        for t in range(start, min(start + CHUNK, TIME)):
            gradients.append(gradient_of(k[:, t], v[:, t], begun))
            shares = [lr[:, i] * between(kept, i, t) for i in range(start, t + 1)]
            whole = kept[:, start : t + 1].prod(1)
            weights = {
                name: like(whole, w) * w - torch.stack([like(share, w) * g[name] for share, g in zip(shares, gradients, strict=True)]).sum(0)
                for name, w in begun.items()
            }
            outputs.append(deep(q[:, t], weights))
    agree_in_all(here, rule, outputs, weights)


@pytest.mark.equation("titans", 17)
def test_the_gradient_of_each_chunk_of_a_matrix_is_one_product() -> None:
    """W_b = beta_b W_0 - K^T diag(theta_i beta_b / beta_i) (K W_0 - V), chunk after chunk, in each row and head."""
    rule = replace(presets.delta_net(), retention=retention.Decay(), update_every=CHUNK)
    here = stream_of(rule)
    _, k, v, lr, memory = letters(here)
    kept, expected = kept_of(here), torch.empty_like(memory)
    for b in range(2):
        for h in range(2):
            w = memory[b, h]
            for start in range(0, TIME, CHUNK):
                stop = min(start + CHUNK, TIME)
                keys, values = k[b, start:stop, h], v[b, start:stop, h]
                shares = torch.stack([lr[b, i, h, 0, 0] * kept[b, i + 1 : stop, h].prod() for i in range(start, stop)])
                w = kept[b, start:stop, h].prod() * w - keys.T @ torch.diag(shares) @ (keys @ w - values)
            expected[b, h] = w
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).state.accumulator["w"], expected)


@pytest.mark.equation("titans", 18)
def test_momentum_inside_a_chunk_runs_over_gradients_at_its_start() -> None:
    """S_t = eta_t S_{t-1} - theta_t u_t with u_t = grad l(M_{t'}; x_t); S goes on from chunk to chunk."""
    _surprise_and_forgetting(every=CHUNK)


@pytest.mark.equation("titans", 18)
def test_momentum_inside_a_chunk_in_closed_form() -> None:
    """S_t = H_t S_0 - sum of (H_t / H_i) theta_i u_i and M_t = beta_t M_0 + sum of (beta_t / beta_j) S_j, H the products of eta."""
    rule = replace(presets.titans(update_every=CHUNK), structure=structure.Matrix())
    here = stream_of(rule)
    q, k, v, lr, memory = letters(here)
    kept, lingers, surprise, outputs = kept_of(here), momentum_of(here), torch.zeros_like(memory), []
    for start in range(0, TIME, CHUNK):
        begun, carried, found = memory, surprise, []
        for t in range(start, min(start + CHUNK, TIME)):
            surprise = lingers[:, start : t + 1].prod(1) * carried
            for i in range(start, t + 1):
                surprise = surprise - between(lingers, i, t) * lr[:, i] * outer(k[:, i], read(k[:, i], begun) - v[:, i])
            found.append(surprise)
            memory = kept[:, start : t + 1].prod(1) * begun
            for j, earlier in enumerate(found):
                memory = memory + between(kept, start + j, t) * earlier
            outputs.append(read(q[:, t], memory))
    agree(here, rule, outputs, memory)
    for engine in engines_of(rule):
        assert_near(run(here, [engine]).state.moments[0]["w"], surprise)


# ---- appendix C


@pytest.mark.equation("titans", 35)
def test_longhorn_is_the_delta_rule_whose_rate_is_that_of_an_implicit_step() -> None:
    """S_{t+1} is the minimiser of |X - S_t|^2 + theta_t |k_t X - v_t|^2; the rate is theta / (1 + theta k k^T)."""
    rule = presets.delta_net()
    here = stream_of(rule)
    here = replace(here, tokens=replace(here.tokens, k=2.5 * here.tokens.k, lr=20 * here.tokens.lr))
    q, k, v, theta, memory = letters(here)
    rate, outputs = theta[..., 0] / (1 + theta[..., 0] * k.square().sum(-1, keepdim=True)), []
    for t in range(TIME):
        root = theta[:, t].sqrt()
        rows = torch.cat([torch.eye(KEY, dtype=torch.float64).expand(2, 2, KEY, KEY), root * k[:, t, :, None]], dim=2)
        memory = torch.linalg.lstsq(rows, torch.cat([memory, root * v[:, t, :, None]], dim=2)).solution
        outputs.append(read(q[:, t], memory))
    agree(replace(here, tokens=replace(here.tokens, lr=rate)), rule, outputs, memory)


@pytest.mark.equation("titans", 35)
def test_a_sigmoid_gate_on_keys_of_length_one_is_a_rate_of_longhorn() -> None:
    """theta / (1 + theta k k^T) with theta = exp(z) and k k^T = 1 is sigmoid(z), the rate that a layer gives a matrix."""
    torch.manual_seed(0)
    memory, x = NeuralMemory(6, heads=2, rule=presets.delta_net(), gates=Gates(lr=0.3)).double(), torch.randn(2, TIME, 6, dtype=torch.float64)
    gates, _ = memory.gates(x, None, torch.tensor([0, 0]), torch.tensor([TIME, TIME]))
    theta = (x @ memory.gates.weight.T + memory.gates.bias).exp()
    assert gates["lr"] is not None
    assert_near(gates["lr"][..., 0], theta / (1 + theta))
    _, k, _, _ = memory.projections((x, x, x), None, torch.tensor([TIME, TIME]))
    assert_near(k.square().sum(-1), torch.ones(2, TIME, 2, 1, dtype=torch.float64), {torch.float64: 1e-2})  # but for 1e-6 under the root
