"""Nested Learning sections 2 and 3: its definitions as constructions out of memories, their initial weights, attention and optimizers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain import MemoryState, learner, presets, retention
from retain.core.tokens import Tokens
from retain.engines import select
from retain.layers import window
from retain.optim import GradientDescent
from tests.by_hand import KEY, engines_of, outer, read, stream_of
from tests.paper.argmin import argmin
from tests.paper.test_nested_associations import DIM, bare, normal
from tests.streams import run
from tests.tolerances import assert_near

TIME = 7


def _linear(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.clone())


# ---- associative memories and learning as such


@pytest.mark.equation("nested_learning", 6)
def test_the_best_linear_memory_of_keys_and_values_is_the_pseudoinverse() -> None:
    """argmin_M |M K - V|^2 = V K^+, which a memory that solves exactly holds after one pass; where keys are fewer than numbers, the least of all."""
    rule = replace(presets.mesa(), learner=learner.LeastSquares(ridge=1e-9))
    for time in (3, 11):
        here = stream_of(rule)
        here = replace(here, tokens=here.tokens.map(lambda x, n=time: x[:, :n]), lengths=torch.tensor([time] * 2))
        ones = torch.ones_like(here.tokens.lr)
        here = replace(here, initial={"w": torch.zeros_like(here.initial["w"])}, tokens=replace(here.tokens, lr=ones, momentum=ones))
        k, v = (x[:, :, :, 0].permute(0, 2, 3, 1) for x in (here.tokens.k, here.tokens.v))
        for engine in engines_of(rule):
            found = run(here, [engine]).state.accumulator["w"].mT
            assert_near(found, v @ torch.linalg.pinv(k), {torch.float64: 1e-6}, what=f"{engine}")


def _regression() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, noisy targets, and the weights [out, in] of least risk over them."""
    x = normal(24, 4)
    y = x @ normal(4, 3, seed=1) + 0.3 * normal(24, 3, seed=2)
    return x, y, torch.linalg.lstsq(x, y).solution.T


def _risk(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (x @ weight.T - y).square().sum(-1).mean() / 2


@pytest.mark.equation("nested_learning", 7)
def test_descent_on_all_data_ends_at_their_least_squares() -> None:
    x, y, best = _regression()
    weight = _linear(torch.zeros(3, 4, dtype=torch.float64))
    optimizer = GradientDescent([weight], lr=0.5)
    for _ in range(600):
        optimizer.zero_grad()
        _risk(weight, x, y).backward()
        optimizer.step()
    assert_near(weight, best)


@pytest.mark.equation("nested_learning", 22)
@pytest.mark.equation("nested_learning", 23)
def test_descent_sample_by_sample_comes_near_the_least_risk() -> None:
    """Phi_{t+1} = Phi_t - eta_{t+1} grad L(Phi_t; x_{t+1}, y_{t+1}), with samples drawn from p and falling rates, towards argmin E L."""
    (x, y, best), source = _regression(), torch.Generator().manual_seed(3)
    weight = _linear(torch.zeros(3, 4, dtype=torch.float64))
    optimizer, by_hand = GradientDescent([weight], lr=0.1), weight.detach().clone()
    for t in range(1500):
        i = int(torch.randint(24, (), generator=source))
        rate = optimizer.param_groups[0]["lr"] = 5.0 / (50 + t)
        optimizer.zero_grad()
        _risk(weight, x[i : i + 1], y[i : i + 1]).backward()
        optimizer.step()
        by_hand = by_hand - rate * torch.outer(by_hand @ x[i] - y[i], x[i])
        if t < 3:
            assert_near(weight, by_hand)
    assert_near(weight, by_hand)
    least, begun = float(_risk(best, x, y)), float(_risk(torch.zeros_like(best), x, y))
    assert least < float(_risk(weight.detach(), x, y)) < least + 0.01 * (begun - least)


@pytest.mark.equation("nested_learning", 19)
def test_a_step_of_descent_is_least_around_the_weights_for_a_loss_that_falls() -> None:
    """theta' = argmin_Phi <Phi x, grad_y L> + |Phi - theta|^2 / (2 eta); with the printed minus the loss rises."""
    x, label, theta, eta = normal(4), torch.tensor(1), normal(3, 4, seed=1), 0.2
    loss = lambda phi: F.cross_entropy(phi @ x, label)  # noqa: E731
    u = (theta @ x).softmax(0) - F.one_hot(label, 3)
    step = lambda sign: argmin(lambda phi: sign * (phi @ x) @ u + (phi - theta).square().sum() / (2 * eta), theta)  # noqa: E731
    weight = _linear(theta)
    loss(weight).backward()
    GradientDescent([weight], lr=eta).step()
    assert_near(weight, step(1.0), {torch.float64: 1e-7})
    assert float(loss(weight.detach())) < float(loss(theta)) < float(loss(step(-1.0)))


# ---- two levels: how often each moves, and in which order


@pytest.mark.equation("nested_learning", 19)
@pytest.mark.equation("nested_learning", "definition 3")
def test_a_memory_inside_an_optimizer_is_a_nested_system_of_two_levels() -> None:
    """Level by level each step is the least of its own problem: the memory's for each token, the initial weights' for each context."""
    memory, x, target, eta = bare(presets.delta_net()), normal(1, TIME, DIM), normal(1, TIME, DIM, seed=1), 0.1
    outside = [p for p in memory.parameters() if p is not memory.initial["w"]]
    optimizer = GradientDescent([memory.initial["w"]], lr=eta)
    for _ in range(2):
        theta = memory.initial["w"].detach().clone()
        state, answers, m = memory.start(1), [], theta[0]
        for t in range(TIME):
            y, state = memory(x[:, t : t + 1], state)
            answers.append(y)
            k, v = (part.weight.detach() @ x[0, t] for part in (memory.projections.to_k, memory.projections.to_v))
            lr = float(torch.sigmoid(memory.gates.weight[0] @ x[0, t] + memory.gates.bias[0]).detach())
            u = k @ m - v  # the error at the memory before the step
            m = argmin(lambda w, k=k, u=u, lr=lr, m=m: (k @ w) @ u + (w - m).square().sum() / (2 * lr), m)
            assert_near(state.accumulator["w"][0, 0], m, {torch.float64: 1e-6})
        optimizer.zero_grad()
        (torch.cat(answers, dim=1) - target).square().sum().backward()
        slope = memory.initial["w"].grad
        assert slope is not None
        optimizer.step()
        assert_near(memory.initial["w"], argmin(lambda w, g=slope, at=theta: (w * g).sum() + (w - at).square().sum() / (2 * eta), theta))
    assert all(p.grad is not None for p in outside)  # other levels of the system, which nobody moved


@pytest.mark.equation("nested_learning", "definition 2")
def test_parts_of_a_memory_move_as_often_as_its_clocks_say_and_momentum_before_the_weights_that_need_it() -> None:
    """Updates in 12 tokens: momentum and memory 6 each, the anchor 3, the projections none. What is faster changes without what is slower."""
    rule = replace(presets.titans(update_every=4, step_every=2), structure=presets.delta_net().structure)
    memory, x = bare(rule), normal(1, 12, DIM)
    memory.engine = select(rule, "recurrent")  # which lets no token wait
    counts, state = {"momentum": 0, "memory": 0, "anchor": 0, "projections": 0}, memory.start(1)
    for t in range(12):
        before, slow = state, memory.projections.to_k.weight.detach().clone()
        _, state = memory(x[:, t : t + 1], state)
        moved = {
            "momentum": not torch.equal(before.moments[0]["w"], state.moments[0]["w"]),
            "memory": not torch.equal(before.accumulator["w"], state.accumulator["w"]),
            "anchor": not torch.equal(before.anchor["w"], state.anchor["w"]),
            "projections": not torch.equal(slow, memory.projections.to_k.weight),
        }
        counts = {name: count + moved[name] for name, count in counts.items()}
        if moved["memory"]:  # A_t = alpha A_{t-1} + S_t needs the momentum of now: the share that is kept is one number
            kept = ((state.accumulator["w"] - state.moments[0]["w"]) / before.accumulator["w"]).detach()
            assert_near(kept, kept.mean().expand_as(kept))
            assert 0 < float(kept.mean()) < 1
    assert counts == {"momentum": 6, "memory": 6, "anchor": 3, "projections": 0}


# ---- meta-learning, and transfer by initialisation


@pytest.mark.equation("nested_learning", 4)
def test_the_start_that_is_best_for_all_tasks_is_learnt_through_the_inner_step() -> None:
    """One step of rate eta_i from Phi towards C_i leaves (1 - eta_i)(Phi - C_i), so the best Phi is the mean of C_i weighed by (1 - eta_i)^2."""
    rule = replace(presets.delta_net(), update_every=KEY, step_every=KEY)
    tasks, rates = normal(5, KEY, 3), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    keys = torch.eye(KEY, dtype=torch.float64).expand(5, KEY, KEY)[:, :, None, None]
    tokens = Tokens(k=keys, v=tasks[:, :, None, None], q=keys[:, :, :, 0], lr=rates[:, None, None, None].expand(5, KEY, 1, 1))

    def outer_loss(phi: Tensor) -> Tensor:
        _, state, _ = select(rule).run(rule, tokens, MemoryState.start(rule, {"w": phi[None]}, batch=5))
        loss = (state.accumulator["w"][:, 0] - tasks).square().sum((1, 2)).mean() / 2
        assert loss.requires_grad == phi.requires_grad
        return loss

    best = argmin(outer_loss, torch.zeros(KEY, 3, dtype=torch.float64))
    share = lambda power: (1 - rates) ** power / ((1 - rates) ** power).sum()  # noqa: E731
    assert_near(best, torch.einsum("i,ikv->kv", share(2), tasks), {torch.float64: 1e-6})
    first_order = torch.einsum("i,ikv->kv", share(1), tasks)  # where the gradient without the inner step would end
    assert float((best - first_order).abs().max()) > 0.01


@pytest.mark.equation("nested_learning", 28)
def test_the_initial_memory_learns_through_every_write() -> None:
    """Theta_0 = argmin E l(M(.; Phi), C): the gradient of the layer's start is that of a loop, and falls to zero where it is learnt over contexts."""
    memory, contexts, targets = bare(presets.gated_delta_net()), normal(3, TIME, DIM), normal(3, TIME, DIM, seed=1)
    start = memory.initial["w"]
    layer_loss = (memory(contexts)[0] - targets).square().sum(-1).mean()

    def by_hand(phi: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for context, target in zip(contexts, targets, strict=True):
            w = phi
            for x, wanted in zip(context, target, strict=True):
                q, k, v = (part.weight @ x for part in (memory.projections.to_q, memory.projections.to_k, memory.projections.to_v))
                lr, forget = torch.sigmoid(memory.gates.weight @ x + memory.gates.bias)
                w = (1 - forget) * w
                w = w - lr * torch.outer(k, k @ w - v)
                total = total + (q @ w - wanted).square().sum()
        return total / targets[..., 0].numel()

    leaf = start.detach()[0].clone().requires_grad_()
    assert_near(layer_loss, by_hand(leaf))
    (slope,) = torch.autograd.grad(by_hand(leaf), leaf)
    (found,) = torch.autograd.grad(layer_loss, start, allow_unused=True, materialize_grads=True)
    assert_near(found[0], slope)
    with torch.no_grad():
        start.copy_(argmin(by_hand, leaf)[None])
    learnt = (memory(contexts)[0] - targets).square().sum(-1).mean()
    assert float(learnt.detach()) < 0.95 * float(layer_loss.detach())
    (rest,) = torch.autograd.grad(learnt, start, allow_unused=True, materialize_grads=True)
    assert float(rest.abs().max()) < 1e-6


# ---- transfer of knowledge from level to level, without a gradient between them


def _left_alone(answers: Tensor, other: nn.Module) -> bool:
    """Whether no gradient of the answers reaches any weight of another level."""
    found = torch.autograd.grad(answers.square().sum(), list(other.parameters()), allow_unused=True, retain_graph=True)
    return all(g is None for g in found)


@pytest.mark.equation("nested_learning", 24)
def test_transfer_by_parameters_reads_at_the_weights_of_another_level() -> None:
    """M_0(x; Theta_1) = (x W_q) Theta_1, for the weights that a faster memory has come to in its own context."""
    slow, fast, x = bare(presets.delta_net()), bare(presets.delta_net()), normal(2, TIME, DIM)
    weights = {name: w.detach() for name, w in fast.weights(fast(normal(2, TIME, DIM, seed=1))[1]).items()}
    y, _ = slow.retrieve(x, weights)
    expected = torch.einsum("btd,ed,beo->bto", x, slow.projections.to_q.weight, weights["w"][:, 0])
    assert_near(y, expected)
    assert _left_alone(y, fast)
    assert not _left_alone(y, slow.projections.to_q)
    assert_near(slow.retrieve(x, {"w": 2 * weights["w"]})[0], 2 * expected)


@pytest.mark.equation("nested_learning", 25)
def test_transfer_by_output_makes_one_level_the_context_of_the_other() -> None:
    """M_0(x; M_1(x)): the slower memory stores what the faster one says."""
    slow, fast, x = bare(presets.delta_net()), bare(presets.gated_delta_net()), normal(2, TIME, DIM)
    said = fast(x)[0].detach()
    y, _ = slow(x, store=said)
    w, outputs = slow.initial["w"][0].expand(2, DIM, DIM), []
    for t in range(TIME):
        k, v = (said[:, t] @ part.weight.T for part in (slow.projections.to_k, slow.projections.to_v))
        lr = torch.sigmoid(said[:, t] @ slow.gates.weight[0] + slow.gates.bias[0])[:, None, None]
        w = w - lr * outer(k, torch.einsum("bk,bkv->bv", k, w) - v)
        outputs.append(torch.einsum("bk,bkv->bv", x[:, t] @ slow.projections.to_q.weight.T, w))
    assert_near(y, torch.stack(outputs, dim=1))
    assert _left_alone(y, fast)
    with torch.no_grad():
        fast.initial["w"].mul_(2.0)
    assert float((slow(x, store=fast(x)[0].detach())[0] - y).detach().abs().max()) > 1e-3


@pytest.mark.equation("nested_learning", 26)
def test_a_fast_memory_is_asked_by_a_slow_projection() -> None:
    """y_t = M_t (x_t W_q): M_t moves at each token, W_q does not; one may be multiplied into the other."""
    memory, x = bare(presets.linear_attention()), normal(1, TIME, DIM)
    y, w_q = memory(x)[0], memory.projections.to_q.weight.detach().T.clone()
    by_hand, seen = memory.initial["w"][0], []
    for t in range(TIME):
        k, v = (x[0, t] @ part.weight.T for part in (memory.projections.to_k, memory.projections.to_v))
        by_hand = by_hand + torch.sigmoid(memory.gates.weight[0] @ x[0, t] + memory.gates.bias[0]) * torch.outer(k, v)
        at_t = memory.weights(memory(x[:, : t + 1])[1])["w"][0, 0]
        assert_near(at_t, by_hand)
        assert_near(y[0, t], (x[0, t] @ w_q) @ by_hand)
        assert_near(y[0, t], x[0, t] @ (w_q @ at_t))
        assert torch.equal(w_q.T, memory.projections.to_q.weight)
        seen.append(at_t)
    assert all(float((a - b).detach().abs().max()) > 1e-4 for a, b in pairwise(seen))


@pytest.mark.equation("nested_learning", 27)
def test_transfer_without_parameters_is_attention_to_the_context() -> None:
    """M_0(.; C) = softmax(q K^T / sqrt(d)) V, a function of the context alone, and M_0(.; M_1(.; C)) with one attention in the context of another."""
    q, k, v = (normal(1, n, 1, DIM, seed=seed) for seed, n in enumerate((3, 5, 5)))
    everything = lambda asking, held: torch.ones(1, asking.shape[1], held.shape[1], dtype=torch.bool)  # noqa: E731
    said = window.attend(k, k, v, everything(k, k))
    for keys, values in ((k, v), (k, said)):
        y = window.attend(q, keys, values, everything(q, keys))
        for t in range(3):
            s = torch.exp((keys[0, :, 0] * q[0, t, 0]).sum(-1) / DIM**0.5)
            assert_near(y[0, t, 0], (s[:, None] * values[0, :, 0]).sum(0) / s.sum())
    fewer = window.attend(q, k[:, :4], v[:, :4], everything(q, k[:, :4]))
    assert float((fewer - window.attend(q, k, v, everything(q, k))).abs().max()) > 1e-3


# ---- transfer with a gradient between the levels


@pytest.mark.equation("nested_learning", "transfer by backpropagation")
@pytest.mark.parametrize("ratio", [1, 3])
def test_two_layers_learn_by_backpropagation_each_at_its_own_frequency(ratio: int) -> None:
    """Theta_1 moves by -eta_1 delta_1 xhat^T at every sample, Theta_0 by -eta_0 sum delta_0 x^T at every r-th, with delta_0 = J^T Theta_1^T delta_1."""
    x, target = normal(6, 4), normal(6, 2, seed=1)
    low, high = _linear(normal(3, 4, seed=2)), _linear(normal(2, 3, seed=3))
    slow, fast = GradientDescent([low], lr=0.1), GradientDescent([high], lr=0.2)
    a, b, waiting = low.detach().clone(), high.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    for t in range(6):
        ((high @ torch.tanh(low @ x[t]) - target[t]).square().sum() / 2).backward()
        fast.step()
        fast.zero_grad()
        if (t + 1) % ratio == 0:
            slow.step()
            slow.zero_grad()
        hidden = torch.tanh(a @ x[t])
        delta_1 = b @ hidden - target[t]
        delta_0 = (1 - hidden**2) * (b.T @ delta_1)
        waiting, b = waiting + torch.outer(delta_0, x[t]), b - 0.2 * torch.outer(delta_1, hidden)
        if (t + 1) % ratio == 0:
            a, waiting = a - 0.1 * waiting, torch.zeros_like(waiting)
        assert_near(high, b)
        assert_near(low, a)


@pytest.mark.equation("nested_learning", "transfer by generation")
def test_a_network_that_makes_the_initial_memory_learns_through_it() -> None:
    """Theta_1 = g(C): the gradient of what the memory answers reaches the weights of g, in every engine."""
    here, asked = stream_of(replace(presets.delta_net(), retention=retention.Decay())), normal(2, 5, seed=4)
    width = here.tokens.v.shape[-1]
    g, probe = nn.Linear(5, 2 * KEY * width).double(), normal(2, 11, 2, width, seed=5)
    made = g(asked).unflatten(1, (2, KEY, width))  # a memory for each row and head
    w, total, t_ = made, torch.zeros((), dtype=torch.float64), here.tokens
    assert t_.q is not None
    assert t_.retain is not None
    for t in range(t_.time):
        k, v = t_.k[:, t, :, 0], t_.v[:, t, :, 0]
        w = t_.retain[:, t, :, None, None] * w - t_.lr[:, t, :, :, None] * outer(k, read(k, w) - v)
        total = total + (read(t_.q[:, t], w) * probe[:, t]).sum()
    expected = torch.autograd.grad(total, list(g.parameters()), retain_graph=True)
    for engine in engines_of(here.rule):
        start = replace(here.start, anchor={"w": made}, accumulator={"w": made})
        found = torch.autograd.grad((engine.run(here.rule, t_, start)[0] * probe).sum(), list(g.parameters()), retain_graph=True)
        for ours, theirs in zip(found, expected, strict=True):
            assert_near(ours, theirs, what=f"{engine}")
            assert bool(theirs.abs().max() > 1e-3)
