"""Nested Learning sections 4 and 5: attention, and a linear memory behind it, against their formulas written out by hand."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from retain import Gates, MemoryState, NeuralMemory, presets
from retain.layers import window
from retain.layers.attention import Attention, AttentionMap
from tests.paper.argmin import argmin
from tests.paper.test_nested_associations import DIM, bare, normal
from tests.tolerances import assert_near


def _nadaraya_watson(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What one query [width] gets from keys and values [tokens, width]: the mean of the values, each weighed by exp(q k / sqrt(d))."""
    s = torch.exp(k @ q / q.shape[-1] ** 0.5)
    return (s @ v) / s.sum()


@pytest.mark.equation("nested_learning", 62)
def test_softmax_attention_is_the_best_constant_for_each_query() -> None:
    """argmin_M sum_i s(k_i, q) |v_i - M|^2, which is the mean of the values weighed by s."""
    q, k, v = (normal(2, 5, 3, DIM, seed=seed) for seed in range(3))
    y = window.attend(q, k, v, torch.ones(1, 5, 5, dtype=torch.bool))
    for b, t, h in ((0, 0, 0), (1, 2, 1), (1, 4, 2)):
        s = torch.exp(k[b, :, h] @ q[b, t, h] / DIM**0.5)
        least = argmin(lambda m, s=s, b=b, h=h: (s * (v[b, :, h] - m).square().sum(-1)).sum(), torch.zeros(DIM, dtype=torch.float64))
        assert_near(y[b, t, h], least, {torch.float64: 1e-7})
        assert_near(y[b, t, h], _nadaraya_watson(q[b, t, h], k[b, :, h], v[b, :, h]))


def _without_positions(attention: AttentionMap) -> AttentionMap:
    """One head, of which what a rotation would turn is zero in all queries, while all else turns by nothing."""
    with torch.no_grad():
        attention.to_q.weight[[0, DIM // 2]] = 0
    return attention


@pytest.mark.equation("nested_learning", 63)
@pytest.mark.parametrize("size", [1, 3, 20])
def test_attention_over_a_window_is_that_of_its_tokens(size: int) -> None:
    """The same sums from i = t - c + 1 to t, whether the stream comes in one piece or in two."""
    q, k, v = (normal(2, 9, 2, DIM, seed=seed) for seed in range(3))
    q[..., [0, DIM // 2]] = 0
    near = window.Window(size, theta=1e40)
    whole, _ = near.look(q, k, v, near.start(k, v), torch.tensor([9, 9]))
    for b, t, h in product(range(2), range(9), range(2)):
        assert_near(whole[b, t, h], _nadaraya_watson(q[b, t, h], *(x[b, max(0, t - size + 1) : t + 1, h] for x in (k, v))))
    first, kept = near.look(q[:, :4], k[:, :4], v[:, :4], near.start(k, v), torch.tensor([4, 4]))
    then, _ = near.look(q[:, 4:], k[:, 4:], v[:, 4:], kept, torch.tensor([5, 5]))
    assert_near(torch.cat([first, then], dim=1), whole)


# ---- AdaTransformer: a linear memory in the place of what follows attention


def tail() -> NeuralMemory:
    """What attention says is the query as it is, and attention's keys and values are written as they are, at rate one."""
    memory = bare(presets.linear_attention(), Gates(curve="hard", rate=1.0))
    with torch.no_grad():
        for part in (memory.projections.to_q, memory.projections.to_k, memory.projections.to_v):
            part.weight.copy_(torch.eye(DIM)).requires_grad_(False)
        memory.gates.weight.zero_().requires_grad_(False)
        memory.gates.bias.fill_(10.0).requires_grad_(False)
    return memory


def _attention(size: int) -> AttentionMap:
    torch.manual_seed(1)
    return _without_positions(Attention(heads=1, window=size, theta=1e40).build(DIM).double())


def _block(
    attention: AttentionMap, memory: NeuralMemory, x: Tensor, before: tuple[window.Sight, MemoryState] | None = None, write: bool = True
) -> tuple[Tensor, tuple[window.Sight, MemoryState]]:
    """The block: its answers, and what it goes on from."""
    sight, state = before or (attention.start(x.shape[0])[0], memory.start(x.shape[0]))
    q, k, v = attention.project(x)
    y, sight = attention.window.look(q, k, v, sight, torch.full((x.shape[0],), x.shape[1]))
    y, state, *_ = memory(y.flatten(-2), state, store=(k.flatten(-2), v.flatten(-2)), write=write)
    return y, (sight, state)


def _attended(attention: AttentionMap, x: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Attention's answers, keys and values [batch, time, dim], by hand."""
    w_k, w_v = attention.to_kv.weight.chunk(2)
    q, k, v = x @ attention.to_q.weight.T, x @ w_k.T, x @ w_v.T
    rows = [[_nadaraya_watson(q[b, t], *(z[b, max(0, t - size + 1) : t + 1] for z in (k, v))) for t in range(x.shape[1])] for b in range(x.shape[0])]
    return torch.stack([torch.stack(row) for row in rows]), k, v


@pytest.mark.equation("nested_learning", 21)
@pytest.mark.equation("nested_learning", 69)
@pytest.mark.parametrize("learnt", [True, False], ids=["a start that is learnt", "no start"])
def test_a_linear_memory_behind_attention_shares_its_keys_and_values(learnt: bool) -> None:
    """y_t = y_attn,t W_t with W_t = W_{t-1} + k_t^T v_t is Y_attn W_0 + tril(Y_attn K^T) V: a token reads after its own write."""
    attention, memory, x = _attention(3), tail(), normal(2, 7, DIM)
    if not learnt:
        with torch.no_grad():
            memory.initial["w"].zero_()
    y_attn, k, v = _attended(attention, x, 3)
    expected = y_attn @ memory.initial["w"][0] + (y_attn @ k.mT).tril() @ v
    y, _ = _block(attention, memory, x)
    assert_near(y, expected)
    leaves = [memory.initial["w"], attention.to_kv.weight, attention.to_q.weight]
    probe = normal(2, 7, DIM, seed=5)
    found = torch.autograd.grad((y * probe).sum(), leaves, allow_unused=True, materialize_grads=True)
    for ours, theirs in zip(found, torch.autograd.grad((expected * probe).sum(), leaves), strict=True):
        turned = slice(1, None, 2) if ours.shape == attention.to_q.weight.shape else slice(None)  # the rows of queries that positions leave alone
        assert_near(ours[turned], theirs[turned], {torch.float64: 1e-8})
        assert bool(theirs.abs().max() > 1e-3)


@pytest.mark.equation("nested_learning", "AdaTransformer block")
@pytest.mark.equation("nested_learning", 69)
def test_a_tail_that_writes_nothing_is_the_linear_map_it_began_as_and_any_split_is_one_call() -> None:
    attention, memory, x = _attention(4), tail(), normal(3, 9, DIM)
    y, _ = _block(attention, memory, x, write=False)
    assert_near(y, _attended(attention, x, 4)[0] @ memory.initial["w"][0])
    whole, _ = _block(attention, memory, x)
    first, kept = _block(attention, memory, x[:, :5])
    then, _ = _block(attention, memory, x[:, 5:], kept)
    assert_near(torch.cat([first, then], dim=1), whole)
    alone, _ = _block(attention, memory, x[1:2])
    assert_near(alone, whole[1:2], {torch.float64: 1e-12})
