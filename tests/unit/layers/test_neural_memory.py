"""The layer: streams cut anywhere, padding and packing, reading without writing, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retain import TTTMLP, Gates, MemoryRule, MemoryState, NeuralMemory, Output, Projections, TTTLinear, presets, retention
from retain.core.errors import EngineRefusal, StateMismatch
from retain.engines import Dual
from tests.tolerances import assert_near

DIM = 6
RULES: dict[str, MemoryRule] = {
    "titans": presets.titans(expansion=1.5, update_every=4),
    "long_steps": presets.titans(expansion=1.5, update_every=6, step_every=3),
    "gated_delta_net": presets.gated_delta_net(),
    "channels": replace(presets.delta_net(), retention=retention.ChannelDecay()),
    "read_before": replace(presets.titans(expansion=1.5, update_every=4, step_every=2), reads="before"),
}
LAYERS: dict[str, dict[str, object]] = {
    **{name: {"rule": rule} for name, rule in RULES.items()},
    "pooled": {"rule": RULES["long_steps"], "gates": Gates(pool="mean", lr=0.2)},
    "two_pairs": {"rule": RULES["titans"], "projections": Projections(pairs=2, conv=2)},
    "bare": {"rule": RULES["titans"], "projections": Projections(conv=1, activation=None, norm="rms"), "output": Output(norm=None, gate=None)},
    "recall": {"rule": RULES["titans"], "projections": Projections(start="recall"), "output": Output(gate="head")},
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def layer(name: str = "titans", heads: int = 2, **settings: object) -> NeuralMemory:
    """A layer in float64 whose convolutions and gates do not stand where they start."""
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, heads=heads, **{**LAYERS[name], **settings}).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for path, weight in memory.named_parameters():
            if path.startswith(("projections.conv", "gates", "initial")):
                weight += 0.2 * torch.randn_like(weight)
    return memory


def stream(batch: int = 2, time: int = 11, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same_memory(ours: MemoryState, theirs: MemoryState) -> None:
    """Two states of one layer stand at one place: what is pending may be folded differently, so both read the same next tokens."""
    assert torch.equal(ours.clock, theirs.clock)
    for field in ("accumulator", "anchor", "buffers"):
        for weight, value in getattr(theirs, field).items():
            assert_near(getattr(ours, field)[weight], value, what=f"{field} {weight}")


# ---- one stream, any calls


@every_layer
@given(cuts=st.lists(st.integers(0, 11), max_size=3), seed=st.integers(0, 999))
def test_a_stream_cut_anywhere_is_the_stream(name: str, cuts: list[int], seed: int) -> None:
    memory, x = layer(name), stream(seed=seed)
    whole, end, surprise = memory(x, return_surprise=True)
    state, parts, surprises = None, [], []
    bounds = [0, *sorted(cuts), 11]
    for start, stop in pairwise(bounds):
        y, state, found = memory(x[:, start:stop], state, return_surprise=True)
        parts.append(y)
        surprises.append(found)
    assert_near(torch.cat(parts, dim=1), whole, what="outputs")
    assert_near(torch.cat(surprises, dim=1), surprise, what="surprise")
    same_memory(state, end)


@every_layer
def test_token_by_token_without_gradients_is_the_stream(name: str) -> None:
    memory, x, state, parts = layer(name), stream(), None, []
    with torch.no_grad():
        for t in range(11):
            y, state = memory(x[:, t : t + 1], state)
            parts.append(y)
    assert_near(torch.cat(parts, dim=1), memory(x)[0], what="outputs")


@every_layer
def test_the_future_is_not_seen(name: str) -> None:
    memory, x = layer(name), stream()
    for t in range(11):
        assert torch.equal(memory(torch.cat([x[:, :t], stream(seed=1)[:, t:]], dim=1))[0][:, :t], memory(x)[0][:, :t])


@every_layer
@given(data=st.data())
def test_padding_anywhere_leaves_no_trace(name: str, data: st.DataObject) -> None:
    memory, x = layer(name), stream(batch=3)
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=11, max_size=11)) for _ in range(3)])
    spoilt = torch.where(mask.unsqueeze(-1), x, torch.nan)
    y, state, surprise = memory(spoilt, mask=mask, return_surprise=True)
    assert not y[~mask].any()
    assert not surprise[~mask].any()
    more = stream(batch=3, time=3, seed=5)
    later = memory(more, state)[0]
    for b in range(3):
        alone, after, alone_surprise = memory(x[b : b + 1, mask[b]], return_surprise=True)
        assert_near(y[b, mask[b]], alone[0], what="outputs")
        assert_near(surprise[b, mask[b]], alone_surprise[0], what="surprise")
        assert int(state.clock[b]) == int(mask[b].sum())
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")


@every_layer
def test_packed_sequences_are_rows_of_their_own(name: str) -> None:
    memory, x, bounds = layer(name), stream(batch=1, time=12), [0, 5, 5, 6, 12]
    y, state, surprise = memory(x, cu_seqlens=torch.tensor(bounds), return_surprise=True)
    more = stream(batch=4, time=1, seed=5)
    later = memory(more, state)[0]
    for b, (start, stop) in enumerate(pairwise(bounds)):
        alone, after, alone_surprise = memory(x[:, start:stop], return_surprise=True)
        assert_near(y[:, start:stop], alone, what="outputs")
        assert_near(surprise[:, start:stop], alone_surprise, what="surprise")
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")
    assert state.clock.tolist() == [5, 0, 1, 6]


@every_layer
def test_rows_at_different_places_decode_token_by_token(name: str) -> None:
    memory, x = layer(name), stream(batch=3, time=16)
    lengths = [2, 7, 0]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        _, state = memory(torch.where(mask.unsqueeze(-1), x[:, :7], 0.0), mask=mask)
        for step in range(9):
            token = torch.stack([x[b, length + step] for b, length in enumerate(lengths)]).unsqueeze(1)
            y, state = memory(token, state)
            for b, length in enumerate(lengths):
                assert_near(y[b, 0], memory(x[b : b + 1, : length + step + 1])[0][0, -1], what=f"row {b}, step {step}")


@every_layer
def test_a_reset_row_begins_anew_and_the_others_go_on(name: str) -> None:
    memory, x, more = layer(name), stream(batch=3), stream(batch=3, time=7, seed=1)
    _, state = memory(x)
    y, after = memory(more, memory.reset(state, torch.tensor([False, True, False])))
    fresh, going_on = memory(more)[0], memory(more, state)[0]
    assert_near(y, torch.stack([going_on[0], fresh[1], going_on[2]]))
    assert after.clock.tolist() == [18, 7, 18]
    assert memory.reset(memory.start(2), torch.tensor([True, False])).clock.tolist() == [0, 0]


# ---- writing and not writing


@every_layer
def test_reading_only_leaves_the_state_as_it_is(name: str) -> None:
    memory = layer(name)
    _, state = memory(stream())
    before = state.hash()
    y, after = memory(stream(seed=1), state, write=False)
    assert after is state
    assert state.hash() == before
    single = torch.cat([memory(stream(seed=1)[:, :1], state, write=False)[0]], dim=1)
    assert_near(y[:, :1], single)
    assert memory(stream(), write=False)[1].hash() == memory.start(2).hash()


@every_layer
def test_reading_only_answers_from_the_memory_as_it_stands(name: str) -> None:
    """No token that is only read is learnt from, whatever the others hold."""
    if LAYERS[name].get("projections", Projections()).conv == 1:  # pyright: ignore[reportAttributeAccessIssue]
        memory = layer(name)
        _, state = memory(stream())
        x = stream(seed=1)
        y = memory(x, state, write=False)[0]
        for t in range(11):
            assert_near(y[:, t : t + 1], memory(x[:, t : t + 1], state, write=False)[0])
    memory = layer(name)
    start = memory.start(2)
    y, after = memory(stream(), write_mask=torch.zeros(2, 11, dtype=torch.bool))
    for weight, value in start.accumulator.items():
        assert torch.equal(after.accumulator[weight], value)
    assert_near(y, memory(stream(), write=False)[0])


@every_layer
def test_tokens_left_out_by_the_write_mask_are_not_learnt_but_counted(name: str) -> None:
    memory, mask = layer(name), torch.tensor([[True] * 4 + [False] * 3 + [True] * 4, [True] * 11])
    y, state = memory(stream(), write_mask=mask)
    everything, all_written = memory(stream())
    assert state.clock.tolist() == [11, 11]
    assert_near(y[1], everything[1])
    first = 4 if memory.rule.reads == "after" else 5
    assert_near(y[0, :4], everything[0, :4])
    assert not torch.allclose(y[0, first:], everything[0, first:], rtol=0, atol=1e-9)
    assert_near(
        memory(stream(), write_mask=torch.ones(2, 11, dtype=torch.bool))[1].accumulator["w" if "w" in memory.initial else "w0"],
        all_written.accumulator["w" if "w" in memory.initial else "w0"],
    )


# ---- learning to learn


@every_layer
def test_gradients_reach_every_parameter(name: str) -> None:
    memory = layer(name)
    memory(stream(time=14))[0].square().sum().backward()
    for path, weight in memory.named_parameters():
        assert weight.grad is not None, path
        assert bool(torch.isfinite(weight.grad).all()), path
        assert bool(weight.grad.any()), path


def test_keys_values_and_gates_learn_through_the_writes_alone() -> None:
    """What a later token reads depends on what earlier ones wrote: the gradient is that of a difference quotient."""
    memory, x = layer("titans"), stream(time=9)
    for weight in (memory.projections.to_k.weight, memory.projections.to_v.weight, memory.gates.weight, memory.initial["w0"]):
        memory.zero_grad()
        memory(x)[0][:, -1].sum().backward()
        assert weight.grad is not None
        place, small = weight.grad.abs().argmax(), 1e-6
        slope = []
        with torch.no_grad():
            for change in (small, -2 * small):
                weight.view(-1)[place] += change
                slope.append(float(memory(x)[0][:, -1].sum()))
            weight.view(-1)[place] += small
        assert float(weight.grad.view(-1)[place]) == pytest.approx((slope[0] - slope[1]) / (2 * small), rel=1e-5)


def test_a_layer_with_several_heads_trains_and_loads() -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(8, heads=4), torch.randn(2, 70, 8)
    optimiser = torch.optim.AdamW(memory.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = (memory(x)[0] - x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    other = NeuralMemory(8, heads=4)
    assert not torch.equal(other(x)[0], memory(x)[0])
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(x)[0], memory(x)[0])


def test_the_parameters_of_a_detached_stream_still_learn() -> None:
    memory = layer()
    _, state = memory(stream())
    state = state.detach()
    assert not any(t.requires_grad for _, t in state.tensors())
    memory(stream(seed=1), state)[0].sum().backward()
    assert memory.projections.to_k.weight.grad is not None
    assert memory.initial["w0"].grad is None


# ---- parts of the layer


def test_recall_binds_a_token_to_the_one_before_it() -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(DIM, heads=2, projections=Projections(start="recall")).double(), stream()
    q, k, _, _ = memory.projections(x, None, torch.tensor([11, 11]))
    assert_near(k[:, 1:, :, 0], q[:, :-1])
    assert not torch.allclose(k[:, :-1, :, 0], q[:, :-1])


def test_keys_and_queries_are_normalised_as_asked() -> None:
    torch.manual_seed(0)
    for norm, size in (("l2", 1.0), ("rms", 3**0.5)):
        memory = NeuralMemory(DIM, heads=2, projections=Projections(norm=norm, pairs=2)).double()  # pyright: ignore[reportArgumentType]
        q, k, v, _ = memory.projections(stream(), None, torch.tensor([11, 11]))
        assert k.shape == (2, 11, 2, 2, 3) == v.shape
        torch.testing.assert_close(q.norm(dim=-1), torch.full((2, 11, 2), size, dtype=torch.float64), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(k.norm(dim=-1), torch.full((2, 11, 2, 2), size, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_pooled_gates_are_the_mean_over_a_step() -> None:
    memory, x = layer("pooled"), stream(time=12)
    gates, sums = memory.gates(x, None, torch.tensor([0, 0]), torch.tensor([12, 12]))
    plain = torch.nn.functional.linear(x, memory.gates.weight, memory.gates.bias).unflatten(1, (4, 3)).mean(2)
    momentum = plain[..., 2:4].sigmoid()
    assert gates["momentum"] is not None
    assert_near(gates["momentum"][:, 2::3, :, 0], momentum)
    assert sums is not None
    assert not sums.any()


def test_gates_start_where_they_are_told() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, heads=2, gates=Gates(lr=0.1, momentum=0.8, forget=0.02, forget_max=0.1, rate=0.5))
    gates, _ = memory.gates(torch.zeros(1, 1, DIM), None, torch.tensor([0]), torch.tensor([1]))
    assert gates["lr"] is not None
    assert gates["momentum"] is not None
    assert gates["retain"] is not None
    torch.testing.assert_close(gates["lr"], torch.full((1, 1, 2, 1), 0.5 * 0.1 * 0.2))
    torch.testing.assert_close(gates["momentum"], torch.full((1, 1, 2, 1), 0.8))
    torch.testing.assert_close(gates["retain"], torch.full((1, 1, 2), 0.98))


def test_hard_gates_reach_their_ends_exactly() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, gates=Gates(curve="hard"))
    for sign, ends in ((-1.0, (0.0, 0.0, 1.0)), (1.0, (0.0, 1.0, 0.0))):
        with torch.no_grad():
            memory.gates.weight.zero_()
            memory.gates.bias.fill_(sign * 100)
        gates, _ = memory.gates(torch.randn(1, 4, DIM), None, torch.tensor([0]), torch.tensor([4]))
        for name, end in zip(("lr", "momentum", "retain"), ends, strict=True):
            gate = gates[name]
            assert gate is not None
            assert bool((gate == end).all()), name


@pytest.mark.parametrize("curve", ["sigmoid", "hard"])
def test_the_cost_of_writing_lies_between_nothing_and_two_and_can_be_lowered(curve: str) -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(DIM, gates=Gates(curve=curve)), torch.randn(2, 9, DIM)  # pyright: ignore[reportArgumentType]
    for sign, cost in ((-100.0, 0.0), (100.0, 2.0)):
        with torch.no_grad():
            memory.gates.bias.fill_(sign)
        assert float(memory.write_cost(x).detach()) == pytest.approx(cost, abs=1e-6)
    with torch.no_grad():
        memory.gates.bias.zero_()
    (slope,) = torch.autograd.grad(memory.write_cost(x), memory.gates.bias)
    assert slope[[0, 2]].gt(0).all()
    assert slope[1] == 0


def test_autocast_leaves_the_state_in_full_precision() -> None:
    torch.manual_seed(0)
    memory, x = NeuralMemory(16, heads=2), torch.randn(2, 150, 16)
    exact, _ = memory(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = memory(x[:, :100])
        more, state = memory(x[:, 100:], state)
    assert {t.dtype for part in (state.anchor, state.accumulator, *state.moments) for t in part.values()} == {torch.float32}
    assert float((torch.cat([y, more], dim=1) - exact).norm() / exact.norm()) < 0.1


def test_a_layer_in_bfloat16_keeps_its_memory_in_float32() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(16, heads=2).bfloat16()
    y, state = memory(torch.randn(2, 70, 16, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert {w.dtype for w in state.accumulator.values()} == {torch.float32}


def test_an_engine_never_changes_the_answer() -> None:
    x = stream()
    expected = layer("titans", engine="recurrent")(x)[0]
    for engine in ("auto", "dual", "materialised", Dual(tile=2, recompute=1)):
        assert_near(layer("titans", engine=engine)(x)[0], expected)


@every_layer
def test_an_empty_call_is_answered(name: str) -> None:
    memory = layer(name)
    y, state = memory(stream(time=0))
    assert y.tolist() == [[], []]
    assert state.clock.tolist() == [0, 0]
    assert memory(stream(time=0), memory(stream())[1])[1].clock.tolist() == [11, 11]


def test_a_batch_of_no_rows_is_answered() -> None:
    y, state = layer()(stream(batch=0))
    assert y.tolist() == []
    assert state.batch == 0


@pytest.mark.parametrize("make", [TTTLinear, TTTMLP])
def test_the_layers_of_the_ttt_paper_run_its_rules(make: object) -> None:
    assert callable(make)
    memory = make(8, heads=2, update_every=4)
    assert memory.rule == (presets.ttt_linear if make is TTTLinear else presets.ttt_mlp)(update_every=4)
    assert memory(torch.randn(1, 9, 8))[1].clock.tolist() == [9]


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"heads": 4}, r"heads must be positive and divide dim unless head_dim is given, got heads=4 and dim=6"),
        ({"heads": 0}, r"heads must be positive"),
        ({"output": Output(project=False), "head_dim": 4}, r"needs heads \* head_dim = dim, got 2 \* 4 and 6"),
        ({"engine": "fast"}, r"no engine 'fast'; choose 'auto' or one of .*'dual'"),
        ({"rule": presets.gated_delta_net(), "engine": "dual"}, r"dual takes all gradients .* Engines that run this rule: 'delta', .*'recurrent'"),
        ({"rule": presets.titans(), "engine": "delta"}, r"delta needs .* Engines that run this rule: 'dual', "),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_its_cure(settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        NeuralMemory(DIM, **{"heads": 2, **settings})  # pyright: ignore[reportArgumentType]


def test_a_refusal_of_an_engine_can_be_caught_by_name() -> None:
    with pytest.raises(EngineRefusal):
        NeuralMemory(DIM, rule=presets.titans(), engine="delta")


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: Projections(pairs=0), "pairs must be at least 1"),
        (lambda: Projections(start="recall", conv=1), "needs conv >= 2 and pairs = 1, got conv=1 and pairs=1"),
        (lambda: Gates(momentum=1.0), "Gates.momentum starts at 1.0"),
        (lambda: Gates(lr=0.0), "Gates.lr starts at 0.0"),
        (lambda: Gates(forget=0.1, forget_max=0.01), "Gates.forget starts at 0.1"),
    ],
)
def test_parts_that_cannot_be_are_refused(make: object, cure: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=cure):
        make()


def test_a_call_that_does_not_fit_is_refused_with_its_cure() -> None:
    memory, x = layer(), stream()
    with pytest.raises(ValueError, match=r"reads a stream of width 6, got x of shape \[2, 11, 5\]"):
        memory(x[..., :5])
    with pytest.raises(StateMismatch, match=r"the state has 3 rows and the input 2\. Choose rows with state\[\.\.\.\], or start a state"):
        memory(x, memory.start(3))
    with pytest.raises(StateMismatch, match="not one of this layer's"):
        memory(x, layer("gated_delta_net").start(2))
    with pytest.raises(StateMismatch, match="0 moments, this layer's has"):
        memory(x, NeuralMemory(DIM, heads=2, rule=presets.ttt_mlp()).start(2))
    for bounds in ([0, 4, 3, 11], [1, 11], [0, 10], [0]):
        with pytest.raises(ValueError, match="bounds that rise from 0 to time=11; got 1 rows, no mask and bounds"):
            memory(x[:1], cu_seqlens=torch.tensor(bounds))
    with pytest.raises(ValueError, match="cu_seqlens needs one row of tokens"):
        memory(x, cu_seqlens=torch.tensor([0, 11]))


def test_shapes_are_refused_in_words_where_no_checker_runs() -> None:
    """In these tests the checker of shapes speaks first; users do not have it."""
    program = """
import torch
from dataclasses import replace
from retain import NeuralMemory
from retain.core.tokens import Tokens
tokens = Tokens(k=torch.zeros(2, 3, 1, 1, 4), v=torch.zeros(2, 3, 1, 1, 4), lr=torch.zeros(2, 3, 1, 1))
for call in (
    lambda: NeuralMemory(6)(torch.zeros(2, 4, 6), mask=torch.ones(2, 4)),
    lambda: NeuralMemory(6)(torch.zeros(2, 4, 6), mask=torch.ones(2, 5, dtype=torch.bool)),
    lambda: replace(tokens, retain=torch.zeros(2, 2, 1)),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "mask must be a bool tensor of shape [batch, time] = [2, 4], got torch.float32 [2, 4].",
        "mask must be a bool tensor of shape [batch, time] = [2, 4], got torch.bool [2, 5].",
        "Tokens.retain must begin with [batch, time] = [2, 3] like k, got shape [2, 2, 1]. "
        "All tokens of a call come in one rectangle; shorter rows are given by `lengths`.",
    ]
