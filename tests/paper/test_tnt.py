"""TNT: the layer against its equations, written out token by token, and what the paper says follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import Gates, MemoryState, Output, Projections, presets, structure
from retain.core.tokens import Tokens
from retain.engines import Delta, Recurrent, in_shards
from retain.layers import Local, TNTMemory, TNTState
from tests.tolerances import assert_near

EXACT = {torch.float64: 1e-10}
TIME = 25
BARE = Output(norm=None, gate=None, project=False)
ONE, MANY = (Local(chunk=3, shard=9),), (Local(chunk=3, shard=9), Local(chunk=1, shard=5), Local(chunk=4, shard=8))
Weights = dict[str, Tensor]


def stream(batch: int = 1, time: int = TIME, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(locals: tuple[Local, ...] = MANY, chunk: int = 4, **settings: object) -> TNTMemory:
    """A layer in float64 whose memories are perceptrons that do not begin at rest, and whose output is the sum of their answers."""
    torch.manual_seed(0)
    rule = replace(presets.tnt(chunk=chunk), structure=structure.MLP(depth=2, expansion=2.0))
    given = {"heads": 2, "gates": Gates(rate=0.5, lr=0.3), "output": BARE, **settings}
    memory = TNTMemory(6, rule=rule, locals=locals, **given).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for part in memory.parts:
            part.gates.weight.mul_(20.0)  # each token has a rate of its own
    return memory


def f(weights: Weights, x: Tensor) -> Tensor:
    return F.gelu(x @ weights["w0"]) @ weights["w1"]


def descent(weights: Weights, k: Tensor, v: Tensor, rate: Tensor) -> Weights:
    """The rate times the gradient of half the squared error, by autograd."""
    gradient = torch.func.grad(lambda w: 0.5 * (f(w, k) - v).square().sum())(weights)
    return {name: rate * g for name, g in gradient.items()}


def plus(a: Weights, b: Weights, sign: float = 1.0) -> Weights:
    return {name: a[name] + sign * b[name] for name in a}


class Head:
    """What one head of a layer reads from a stream: queries, keys, values, and for each memory rates and initial weights."""

    def __init__(self, memory: TNTMemory, x: Tensor, head: int) -> None:
        lengths, clock = torch.tensor([x.shape[1]]), torch.tensor([0])
        q, k, v, _ = memory.projections((x, x, x), None, lengths)
        self.q, self.k, self.v = q[0, :, head], k[0, :, head, 0], v[0, :, head, 0]
        self.rates, self.initial = [], []
        for part in memory.parts:
            lr = part.gates(x, None, clock, lengths)[0]["lr"]
            assert lr is not None
            self.rates.append(lr[0, :, head, 0])
            self.initial.append({name: w[head] for name, w in part.initial.items()})


def by_equations_5_to_7(h: Head, chunk: int, local: Local) -> Tensor:
    """One global and one local memory. Bases are those of equation 3, and the projection begins with the shard."""
    v_chunk, w_chunk, p = h.initial[0], h.initial[1], torch.zeros(3, 3, dtype=torch.float64)
    v_sum, w_sum = ({name: torch.zeros_like(w) for name, w in weights.items()} for weights in (v_chunk, w_chunk))
    nothing, outputs = (dict(v_sum), dict(w_sum)), []
    for t in range(len(h.q)):
        if t % chunk == 0 and t:
            v_chunk, v_sum = plus(v_chunk, v_sum, -1.0), nothing[0]
        if t % local.shard == 0:
            w_chunk, w_sum, p = h.initial[1], nothing[1], torch.zeros_like(p)
        elif t % local.chunk == 0:
            w_chunk, w_sum = plus(w_chunk, w_sum, -1.0), nothing[1]
        v_sum = plus(v_sum, descent(v_chunk, h.k[t], h.v[t], h.rates[0][t]))
        w_sum = plus(w_sum, descent(w_chunk, h.k[t], h.v[t], h.rates[1][t]))
        p = p + torch.outer(h.k[t], h.k[t]) / h.k[t].square().sum()
        outputs.append(f(v_chunk, h.q[t]) + f(plus(w_chunk, w_sum, -1.0), p @ h.q[t]))
    return torch.stack(outputs)


def by_equations_13_to_15(h: Head, chunk: int, locals: tuple[Local, ...]) -> Tensor:
    """Any number of local memories, each sum over its own tokens, from the definitions, nothing carried along."""
    outputs, coarse = [], [h.initial[0]]
    for t in range(len(h.q)):
        if t % chunk == 0 and t:
            last = coarse[-1]
            for tau in range(t - chunk, t):
                coarse[-1] = plus(coarse[-1], descent(last, h.k[tau], h.v[tau], h.rates[0][tau]), -1.0)
        y = f(coarse[-1], h.q[t])
        for i, local in enumerate(locals, start=1):
            first, w, p = t - t % local.shard, h.initial[i], torch.zeros(3, 3, dtype=torch.float64)
            for start in range(first, t + 1, local.chunk):
                base = w
                for tau in range(start, min(start + local.chunk, t + 1)):
                    w = plus(w, descent(base, h.k[tau], h.v[tau], h.rates[i][tau]), -1.0)
            for tau in range(first, t + 1):
                p = p + torch.outer(h.k[tau], h.k[tau]) / h.k[tau].square().sum()
            y = y + f(w, p @ h.q[t])
        outputs.append(y)
    return torch.stack(outputs)


def both_heads(memory: TNTMemory, x: Tensor, rule: Callable[..., Tensor], *given: object) -> Tensor:
    return torch.cat([rule(Head(memory, x, head), *given) for head in range(2)], dim=-1).unsqueeze(0)


# ---- the equations


@pytest.mark.equation("tnt", 5)
@pytest.mark.equation("tnt", 6)
@pytest.mark.equation("tnt", 7)
@pytest.mark.parametrize("engine", ["auto", "dual", "materialised", "recurrent"])
def test_the_layer_is_its_equations(engine: str) -> None:
    memory, x = layer(ONE, engine=engine), stream()
    assert_near(memory(x)[0], both_heads(memory, x, by_equations_5_to_7, 4, ONE[0]), EXACT)


@pytest.mark.equation("tnt", 13)
@pytest.mark.equation("tnt", 14)
@pytest.mark.equation("tnt", 15)
@pytest.mark.parametrize("engine", ["auto", "recurrent"])
def test_many_local_memories_are_their_equations(engine: str) -> None:
    memory, x = layer(MANY, engine=engine), stream()
    assert_near(memory(x)[0], both_heads(memory, x, by_equations_13_to_15, 4, MANY), EXACT)


@pytest.mark.equation("tnt", 15)
def test_one_local_memory_of_many_is_the_single_one() -> None:
    memory, x = layer(ONE), stream()
    many = both_heads(memory, x, by_equations_13_to_15, 4, ONE)
    assert_near(many, both_heads(memory, x, by_equations_5_to_7, 4, ONE[0]), EXACT)
    assert_near(memory(x)[0], many, EXACT)


@pytest.mark.equation("tnt", 1)
@pytest.mark.equation("tnt", 2)
def test_chunks_of_one_token_are_descent_online() -> None:
    local = Local(chunk=1, shard=1024)
    memory, x = layer((local,), chunk=1024), stream()
    parts = []
    for head in range(2):
        h = Head(memory, x, head)
        w, p, outputs = h.initial[1], torch.zeros(3, 3, dtype=torch.float64), []
        for t in range(TIME):
            w = plus(w, descent(w, h.k[t], h.v[t], h.rates[1][t]), -1.0)
            p = p + torch.outer(h.k[t], h.k[t]) / h.k[t].square().sum()
            outputs.append(f(h.initial[0], h.q[t]) + f(w, p @ h.q[t]))
        parts.append(torch.stack(outputs))
    assert_near(memory(x)[0], torch.cat(parts, dim=-1).unsqueeze(0), EXACT)


@pytest.mark.equation("tnt", 3)
@pytest.mark.equation("tnt", 4)
def test_chunks_of_several_tokens_are_not_descent_online() -> None:
    online, chunked = layer((Local(chunk=1, shard=8),)), layer((Local(chunk=4, shard=8),))
    chunked.load_state_dict(online.state_dict())
    error = (online(stream())[0] - chunked(stream())[0]).detach().abs()[0].amax(-1)
    assert float(error[0]) < 1e-12
    assert float(error[1:4].max()) > 1e-4


# ---- the projection


def projected(k: Tensor, q: Tensor, shard: int, chunk: int = 4) -> tuple[Tensor, MemoryState]:
    """P_t q_t for keys and queries [time, width] of one head, chunk by chunk, and the state behind them."""
    rule = presets.linear_attention()
    start = lambda rows: MemoryState.start(rule, {"w": k.new_zeros(1, k.shape[1], k.shape[1])}, rows)  # noqa: E731
    unit, one = k / k.square().sum(-1, keepdim=True), k.new_ones(1, len(k), 1, 1)
    tokens = Tokens(q=q[None, :, None], k=k[None, :, None, None], v=unit[None, :, None, None], lr=one)
    y, state = in_shards(Delta(chunk=chunk), rule, tokens, start(1), torch.tensor([len(k)]), shard=shard, start=start)
    return y[0, :, 0], state


@pytest.mark.equation("tnt", "appendix C")
@pytest.mark.parametrize("shard", [1, 5, 8, 100])
def test_the_chunks_of_the_projection_are_its_recurrence_begun_anew_in_each_shard(shard: int) -> None:
    k, q = stream()[0], stream(seed=1)[0]
    p, recurrence = torch.zeros(6, 6, dtype=torch.float64), []
    for t in range(TIME):
        share = torch.outer(k[t], k[t]) / k[t].square().sum()
        p = share if t % shard == 0 else p + share
        recurrence.append(p @ q[t])
    y, state = projected(k, q, shard)
    assert_near(y, torch.stack(recurrence), EXACT)
    assert_near(state.accumulator["w"][0, 0], p, EXACT)


@pytest.mark.equation("tnt", 7)
def test_orthonormal_keys_make_the_projection_idempotent() -> None:
    k = torch.linalg.qr(stream()[0, :6])[0][:4]
    _, state = projected(3.0 * k, k, shard=8)
    p = state.accumulator["w"][0, 0]
    assert_near(p @ p, p, EXACT)
    assert_near(p, k.t() @ k, EXACT)
    y, _ = projected(k, stream(seed=1)[0, :4], shard=8)
    assert_near(y[3] @ p, y[3], EXACT)


def test_the_layers_projection_is_that_of_its_keys() -> None:
    memory, x = layer(MANY, projections=Projections(norm=None)), stream()
    state = memory(x)[1]
    for i, local in enumerate(MANY):
        for head in range(2):
            k = Head(memory, x, head).k
            k = k[TIME - 1 - (TIME - 1) % local.shard :]
            expected = (k / k.square().sum(-1, keepdim=True)).t() @ k
            assert_near(state.projections[i].accumulator["w"][0, head], expected, EXACT)


# ---- what follows


def without_global(memory: TNTMemory) -> TNTMemory:
    """The layer with a global memory that learns nothing."""
    with torch.no_grad():
        memory.parts[0].gates.weight.zero_()
        memory.parts[0].gates.bias.fill_(-1e4)
    return memory


@pytest.mark.equation("tnt", 6)
def test_without_a_global_memory_shards_know_nothing_of_each_other() -> None:
    local, plain = (Local(chunk=2, shard=8),), Projections(conv=1)
    for memory, linked in ((layer(local, projections=plain), True), (without_global(layer(local, projections=plain)), False)):
        x = stream().requires_grad_()
        (slope,) = torch.autograd.grad(memory(x)[0][:, 16:24].sum(), x)
        assert bool(slope[:, :16].any()) == linked
        assert bool(slope[:, 16:24].any())
        assert not slope[:, 24:].any()


@pytest.mark.equation("tnt", 6)
def test_every_shard_teaches_the_initial_weights() -> None:
    memory, x = layer((Local(chunk=2, shard=8),)), stream()
    first = memory.parts[1].initial["w0"]
    y, total = memory(x)[0], torch.zeros_like(first)
    for start in range(0, TIME, 8):
        (slope,) = torch.autograd.grad(y[:, start : start + 8].sum(), first, retain_graph=True)
        assert bool(slope.any()), f"the shard that begins at {start}"
        total = total + slope
    (whole,) = torch.autograd.grad(y.sum(), first)
    assert_near(whole, total, {torch.float64: 1e-12})


@pytest.mark.equation("tnt", 6)
def test_shards_of_a_detached_stream_still_teach_the_initial_weights() -> None:
    memory, x = layer((Local(chunk=2, shard=8),)), stream()
    _, state = memory(x[:, :16])
    memory(x[:, 16:], state.detach())[0].sum().backward()
    for name, weight in memory.parts[1].initial.items():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name
    assert all(weight.grad is None for weight in memory.parts[0].initial.values())


@pytest.mark.equation("tnt", 7)
def test_a_token_reads_the_global_memory_as_it_stood_when_its_chunk_began() -> None:
    memory = layer((), projections=Projections(conv=1))
    x = stream().requires_grad_()
    (slope,) = torch.autograd.grad(memory(x)[0][:, 11].sum(), x)
    assert slope[:, :8].any(-1).all()
    assert not slope[:, 8:11].any()
    assert bool(slope[:, 11].any())


def test_shards_side_by_side_are_shards_one_by_one() -> None:
    """A layer without a global memory gives each shard what it gives it as a stream."""
    memory, x = without_global(layer((Local(chunk=2, shard=6),), projections=Projections(conv=1))), stream(batch=3)
    whole, state = memory(x)
    alone = [memory(x[:, start : start + 6])[0] for start in range(0, TIME, 6)]
    assert_near(whole, torch.cat(alone, dim=1), EXACT)
    assert isinstance(state, TNTState)
    assert state.locals[0].clock.tolist() == [1, 1, 1]


def test_the_oracle_of_each_memory_has_the_same_gradients() -> None:
    x, slopes = stream(batch=2), []
    for engine in ("auto", Recurrent()):
        memory = layer(MANY, engine=engine)
        memory(x)[0].square().sum().backward()
        slopes.append({name: w.grad for name, w in memory.named_parameters()})
    for name, slope in slopes[0].items():
        other = slopes[1][name]
        assert slope is not None, name
        assert other is not None, name
        assert bool(slope.any()), name
        assert_near(slope, other, {torch.float64: 1e-8}, name)
