"""Nested Learning section 8: self-modifying Titans, held against the paper's recurrences written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.reader import Plain
from retain.layers import SelfModifyingRule
from retain.memory.structure import Matrix, ResidualMLP
from tests.self_modifying_by_hand import DIM, EXACT, HEADS, LONG, OTHERS, WIDTH, Head, agrees, layer, parts, says, stream, weights_of
from tests.tolerances import assert_near

# ---- projections that stand still, and those that do not


@pytest.mark.equation("nested_learning", 76)
@pytest.mark.equation("nested_learning", 77)
@pytest.mark.equation("nested_learning", 78)
@torch.no_grad()
def test_projections_that_stand_still_and_a_matrix_are_the_gated_delta_rule() -> None:
    """M_t = alpha_t M_{t-1} - eta_t (M_{t-1} k_t - v_t) k_t^T and y_t = M_t q_t, with k = x W_k, v = x W_v, q = x W_q, eta = x W_eta, alpha = x W_alpha."""
    rule = SelfModifyingRule(chunk=1, update="gd", targets="shared", unit=frozenset())
    memory, x = layer(Matrix(), rule, ("memory",)), stream()
    assert memory.to_q is not None
    q_all = (x[0] @ memory.to_q.weight.t()).unflatten(-1, (HEADS, WIDTH))
    for head in range(HEADS):
        w = {name: memory.initial[f"{name}_w"][head] for name in (*OTHERS, "memory")}
        m = w["memory"].t()
        for t in range(LONG):
            z = x[0, t, head * WIDTH : (head + 1) * WIDTH]
            k, v = z @ w["k"], z @ w["v"]
            eta, alpha = (torch.sigmoid(z @ w[name] + memory.biases[name][head]) for name in ("eta", "alpha"))
            m = alpha * m - eta * torch.outer(m @ k - v, k)
            _, state = memory(x[:, : t + 1])
            assert_near(parts(state, "memory", head)[0], m, EXACT, "memory")
            answer, _ = memory(x[:, t : t + 1], state, write=False)
            assert_near(answer[0, 0, head * WIDTH : (head + 1) * WIDTH], m @ q_all[t, head], EXACT, "answer")


@pytest.mark.equation("nested_learning", 79)
@pytest.mark.equation("nested_learning", 80)
@pytest.mark.equation("nested_learning", 81)
@pytest.mark.parametrize("structure", [Matrix(), ResidualMLP()])
def test_memories_that_make_everything_and_hold_one_value(structure: Matrix | ResidualMLP) -> None:
    rule = SelfModifyingRule(chunk=1, update="gd", targets="shared")
    agrees(layer(structure, rule, (*OTHERS, "q", "memory")), stream())


@pytest.mark.equation("nested_learning", 79)
@torch.no_grad()
def test_memories_that_are_never_moved_are_projections() -> None:
    rule, x = SelfModifyingRule(chunk=1, targets="shared", decay=False), stream()
    moving, still = (layer(Matrix(), rule, adaptive) for adaptive in (("k", "v", "eta", "memory"), ("memory",)))
    still.load_state_dict(moving.state_dict())
    assert float((moving(x)[0] - still(x)[0]).abs().max()) > 1e-3
    for memory in (moving, still):
        memory.biases["eta"].fill_(-1e4)
    assert_near(moving(x)[0], still(x)[0], EXACT)


@pytest.mark.equation("nested_learning", 82)
@torch.no_grad()
def test_read_only_answers_are_those_behind_the_write() -> None:
    """y_t = M_memory,t(q_t), which the layer gives if it is asked without writing."""
    memory, x = layer(ResidualMLP(), SelfModifyingRule(chunk=1, targets="shared")), stream()
    for t in (1, 2, LONG):
        _, state = memory(x[:, :t])
        found, _ = memory(x[:, t - 1 : t], state, write=False)
        for head in range(HEADS):
            hand = Head.of(memory, x[:, :t], head)
            with torch.enable_grad():
                hand.run()
            expected = says("memory", hand.M["memory"][t], hand.made(t)[0])
            assert_near(found[0, 0, head * WIDTH : (head + 1) * WIDTH], expected.detach(), EXACT)


# ---- values of one's own


@pytest.mark.equation("nested_learning", 83)
@pytest.mark.equation("nested_learning", 84)
@pytest.mark.equation("nested_learning", 85)
@pytest.mark.equation("nested_learning", 86)
@pytest.mark.equation("nested_learning", 87)
@pytest.mark.equation("nested_learning", 88)
@pytest.mark.parametrize("structure", [Matrix(), ResidualMLP()])
@pytest.mark.parametrize("queries", ["still", "made"])
def test_memories_hold_values_of_their_own(structure: Matrix | ResidualMLP, queries: str) -> None:
    adaptive = (*OTHERS, "memory", *(("q",) if queries == "made" else ()))
    agrees(layer(structure, SelfModifyingRule(chunk=1), adaptive), stream())


@pytest.mark.equation("nested_learning", 83)
@torch.no_grad()
def test_a_token_is_read_before_it_is_written() -> None:
    memory, x = layer(ResidualMLP(), SelfModifyingRule(chunk=1)), stream()
    unwritten, _ = memory(x, write_mask=torch.arange(LONG)[None] < 5)
    assert_near(unwritten[:, :6], memory(x)[0][:, :6], EXACT)
    assert float((unwritten[:, 6] - memory(x)[0][:, 6]).abs().max()) > 1e-4


@pytest.mark.equation("nested_learning", 84)
@pytest.mark.equation("nested_learning", 85)
@torch.no_grad()
def test_a_memory_changes_its_own_target_and_no_others() -> None:
    memory, x = layer(ResidualMLP(), SelfModifyingRule(chunk=1)), stream(1)
    _, before = memory(x)
    memory.initial["memory_w1"].mul_(2.0)
    _, after = memory(x)
    for name in OTHERS:
        for one, other in zip(parts(before, name), parts(after, name), strict=True):
            assert_near(one, other, EXACT, name)
    w2, w1 = weights_of({path: w[0] for path, w in memory.initial.items()}, "memory")
    _, k, v, eta, alpha = Head.of(memory, x, 0).made(1)
    target = v + w1 @ F.gelu(w2 @ v)
    error = k + w1 @ F.gelu(w2 @ k) - target
    assert_near(parts(after, "memory")[1], alpha * w1 - eta * torch.outer(error, F.gelu(w2 @ k)), EXACT)


@pytest.mark.equation("nested_learning", 84)
@pytest.mark.equation("nested_learning", 85)
@torch.no_grad()
def test_a_memory_that_is_the_identity_holds_the_value_itself() -> None:
    """v_hat = v_t, so that equation 85 is equation 81 for the first token."""
    x, states = stream(1), []
    for targets in ("self-generated", "shared"):
        memory = layer(ResidualMLP(), SelfModifyingRule(chunk=1, targets=targets), ("memory",))  # pyright: ignore[reportArgumentType]
        memory.initial["memory_w1"].zero_()
        states.append(memory(x)[1])
    for path, weight in states[0].accumulator.items():
        assert_near(weight, states[1].accumulator[path], EXACT, path)


@pytest.mark.equation("nested_learning", 84)
@pytest.mark.equation("nested_learning", 85)
def test_no_inner_gradient_goes_into_a_target_and_the_outer_one_does() -> None:
    """The write of a matrix at its first token is that of a fixed target, and moves with the memory that made it."""
    memory, x = layer(Matrix(), SelfModifyingRule(chunk=1), ("memory",)), stream(1)
    start = memory.initial["memory_w"]
    _, k, v, eta, alpha = Head.of(memory, x, 0).made(1)

    def written(w: Tensor) -> Tensor:
        m = w.t()
        return m @ (alpha * torch.eye(WIDTH) - eta * torch.outer(k, k)) - eta * torch.outer(m @ k - m @ v, k)

    (slope,) = torch.autograd.grad(memory(x)[1].accumulator["memory_w"][0, 0].pow(3).sum(), start)
    (expected,) = torch.autograd.grad(written(start[0]).pow(3).sum(), start)
    assert_near(slope, expected, EXACT)


@pytest.mark.equation("nested_learning", 86)
@pytest.mark.equation("nested_learning", 88)
def test_the_outer_gradient_reaches_every_first_memory_and_the_queries() -> None:
    for structure in (Matrix(), ResidualMLP()):
        memory = layer(structure, SelfModifyingRule(chunk=2))
        memory(stream())[0].square().sum().backward()
        for path, weight in memory.named_parameters():
            assert weight.grad is not None, path
            assert bool(weight.grad.any()), path


@pytest.mark.equation("nested_learning", 88)
@torch.no_grad()
def test_nothing_happens_without_a_rate_and_what_is_orthogonal_to_the_key_only_fades() -> None:
    memory, x = layer(Matrix(), SelfModifyingRule(chunk=1)), stream(1)
    _, state = memory(x)
    _, k, _, _, alpha = Head.of(memory, x, 0).made(1)
    across = torch.linalg.svd(k.unsqueeze(0)).Vh[1:].t()
    first = weights_of({path: w[0] for path, w in memory.initial.items()}, "memory")[0]
    assert_near(parts(state, "memory")[0] @ across, alpha * first @ across, EXACT)
    memory.biases["eta"].fill_(-1e4)
    memory.biases["alpha"].fill_(1e4)
    for path, weight in memory(stream())[1].accumulator.items():
        assert_near(weight[0], memory.initial[path].detach(), EXACT, path)


# ---- what a memory is


@pytest.mark.equation("nested_learning", 89)
@pytest.mark.equation("nested_learning", 91)
@torch.no_grad()
def test_a_memory_is_a_perceptron_beside_the_identity() -> None:
    memory, x = layer(ResidualMLP(expansion=2.0), SelfModifyingRule(chunk=4)), stream(3)
    y, _ = memory(x)
    assert memory.to_q is not None
    q_all = (x[0] @ memory.to_q.weight.t()).unflatten(-1, (HEADS, WIDTH))
    q_all = q_all / (q_all.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    for head in range(HEADS):
        w2, w1 = (memory.initial[f"memory_{name}"][head].t() for name in ("w0", "w1"))
        assert w2.shape == (2 * WIDTH, WIDTH)
        for t in range(3):
            expected = q_all[t, head] + w1 @ F.gelu(w2 @ q_all[t, head])
            assert_near(y[0, t, head * WIDTH : (head + 1) * WIDTH], expected, EXACT)
            held = {name: memory.initial[f"memory_{name}"][head] for name in ("w0", "w1")}
            assert_near(ResidualMLP().read(Plain(held), q_all[t : t + 1, head])[0], expected, EXACT)


# ---- chunks


@pytest.mark.equation("nested_learning", 90)
@pytest.mark.parametrize("structure", [Matrix(), ResidualMLP()])
@pytest.mark.parametrize(("chunk", "others"), [(1, 1), (4, 4), (4, 2), (2, 4), (3, 2), (LONG + 5, 5)])
def test_everything_is_made_at_the_last_boundary(structure: Matrix | ResidualMLP, chunk: int, others: int) -> None:
    agrees(layer(structure, SelfModifyingRule(chunk=chunk, projection_chunk=others)), stream())


@pytest.mark.equation("nested_learning", 90)
@pytest.mark.equation("nested_learning", 93)
def test_no_token_of_the_future_is_seen_and_none_of_the_same_chunk() -> None:
    for structure in (Matrix(), ResidualMLP()):
        memory, x = layer(structure, SelfModifyingRule(chunk=4)), stream(12).requires_grad_()
        y, _ = memory(x)
        for t in range(12):
            (slope,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
            moved, boundary = slope[0].abs().amax(-1) > 1e-12, 4 * (t // 4)
            assert moved[:boundary].all()
            assert bool(moved[t])
            assert not moved[boundary:t].any()
            assert not moved[t + 1 :].any()


def one_matrix(rule: SelfModifyingRule, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """The memory of the first head of a layer behind the stream, and for each token what it brings."""
    memory = layer(Matrix(), rule, ("memory",))
    hand = Head.of(memory, x, 0)
    tokens = [hand.made(t) for t in range(1, x.shape[1] + 1)]
    k, v, eta, alpha = (torch.stack([token[i] for token in tokens]).detach() for i in (1, 2, 3, 4))
    with torch.no_grad():
        return parts(memory(x)[1], "memory")[0], hand.M["memory"][0], k, v, eta, alpha


@pytest.mark.equation("nested_learning", 92)
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_matrix_that_descends_on_the_dot_product(chunk: int) -> None:
    """M_t = M_{t-1} (alpha_t I - eta_t k_t k_t^T) + eta_t v_hat_t k_t^T."""
    found, (m,), k, v, eta, alpha = one_matrix(SelfModifyingRule(chunk=chunk, objective="dot"), stream())
    frozen = m
    for t in range(LONG):
        frozen = m if t % chunk == 0 else frozen
        m = m @ (alpha[t] * torch.eye(WIDTH) - eta[t] * torch.outer(k[t], k[t])) + eta[t] * torch.outer(frozen @ v[t], k[t])
    assert_near(found, m, EXACT)


@pytest.mark.equation("nested_learning", 93)
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_matrix_that_descends_on_half_the_squared_error(chunk: int) -> None:
    """M_t = M_{t-1} (alpha_t I - eta_t k_t k_t^T) - eta_t (M_xi k_t - v_hat_t) k_t^T."""
    found, (m,), k, v, eta, alpha = one_matrix(SelfModifyingRule(chunk=chunk), stream())
    frozen = m
    for t in range(LONG):
        frozen = m if t % chunk == 0 else frozen
        error = frozen @ k[t] - frozen @ v[t]
        m = m @ (alpha[t] * torch.eye(WIDTH) - eta[t] * torch.outer(k[t], k[t])) - eta[t] * torch.outer(error, k[t])
    assert_near(found, m, EXACT)


def held_again_and_again(objective: str, chunk: int) -> tuple[Tensor, Tensor]:
    """What a matrix says to a key that it saw a hundred times with one value, nothing forgotten; and that value."""
    rule = SelfModifyingRule(chunk=chunk, objective=objective, targets="shared", decay=False)  # pyright: ignore[reportArgumentType]
    found, _, k, v, _, _ = one_matrix(rule, stream(1).expand(1, 100, DIM))
    return found @ k[0], v[0]


@pytest.mark.equation("nested_learning", 92)
@pytest.mark.parametrize("chunk", [1, 16])
def test_the_dot_product_and_the_factor_make_a_memory_say_its_value(chunk: int) -> None:
    answer, value = held_again_and_again("dot", chunk)
    assert_near(answer, value, {torch.float64: 1e-5})


@pytest.mark.equation("nested_learning", 88)
@pytest.mark.equation("nested_learning", 93)
@pytest.mark.parametrize("chunk", [1, 2])
def test_the_squared_error_and_the_factor_erase_twice_and_make_it_say_half_of_it(chunk: int) -> None:
    answer, value = held_again_and_again("l2", chunk)
    assert_near(answer, value / 2, {torch.float64: 1e-5})


@pytest.mark.equation("nested_learning", 92)
def test_without_forgetting_the_dot_product_is_the_delta_rule() -> None:
    """M_t = M_{t-1} (I - eta_t k_t k_t^T) + eta_t v_t k_t^T, equation 65."""
    rule = SelfModifyingRule(chunk=4, objective="dot", targets="shared", decay=False)
    found, (m,), k, v, eta, _ = one_matrix(rule, stream())
    for t in range(LONG):
        m = m - eta[t] * torch.outer(m @ k[t] - v[t], k[t])
    assert_near(found, m, EXACT)
