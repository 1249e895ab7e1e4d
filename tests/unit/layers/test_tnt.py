"""The TNT layer: streams cut anywhere, rows of their own, reading without writing, its state, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retain import Anchor, Gates, MemoryRule, Output, Projections, load_state, presets, save_state, structure
from retain.core.errors import EngineRefusal, StateMismatch
from retain.layers import Local, Polynomial, TNTMemory, TNTState
from tests.samples import DIM, stream
from tests.tolerances import assert_near

LOCALS = (Local(chunk=2, shard=6), Local(chunk=1, shard=4))
LAYERS: dict[str, dict[str, object]] = {
    "tnt": {"rule": presets.tnt(chunk=4)},
    "momentum": {"rule": presets.titans(expansion=1.5, update_every=6, step_every=3), "gates": Gates(pool="mean", lr=0.2)},
    "of_two_kinds": {
        "rule": presets.tnt(chunk=5),
        "locals": (Local(chunk=3, shard=6, rule=presets.yaad()), Local(chunk=1, shard=4, rule=presets.delta_net())),
    },
    "features": {"rule": presets.delta_net(), "projections": Projections(pairs=2, features=Polynomial(degree=2))},
    "memora": {"rule": replace(presets.memora(), update_every=4, step_every=4, reads="before"), "output": Output(gate="head")},
}
every_layer = pytest.mark.parametrize("name", LAYERS)
some_layers = pytest.mark.parametrize("name", ["tnt", "momentum", "of_two_kinds"])  # for what takes long


def layer(name: str = "tnt", **changes: object) -> TNTMemory:
    """A layer in float64 whose convolutions, gates and memories do not stand where they start."""
    torch.manual_seed(0)
    memory = TNTMemory(DIM, **{"heads": 2, "locals": LOCALS, **LAYERS[name], **changes}).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for path, weight in memory.named_parameters():
            if path.startswith(("projections.conv", "memories")):
                weight += 0.2 * torch.randn_like(weight)
    return memory


def same_place(ours: TNTState, theirs: TNTState) -> None:
    """Two states of one layer: what is pending may be folded differently, all else agrees."""
    for name, part in theirs.parts().items():
        mine = ours.parts()[name]
        assert torch.equal(mine.clock, part.clock), name
        for field in ("accumulator", "anchor", "buffers"):
            for weight, value in getattr(part, field).items():
                assert_near(getattr(mine, field)[weight], value, what=f"{name} {field} {weight}")


# ---- one stream, any calls


@some_layers
@settings(max_examples=4)
@given(cuts=st.lists(st.integers(0, 17), max_size=4), seed=st.integers(0, 999))
@torch.no_grad()
def test_a_stream_cut_anywhere_is_the_stream(name: str, cuts: list[int], seed: int) -> None:
    memory, x = layer(name), stream(time=17, seed=seed)
    whole, end = memory(x)
    state, parts = None, []
    for start, stop in pairwise([0, *sorted(cuts), 17]):
        y, state = memory(x[:, start:stop], state)
        parts.append(y)
    assert state is not None
    assert_near(torch.cat(parts, dim=1), whole, what="outputs")
    same_place(state, end)


@every_layer
def test_token_by_token_without_gradients_is_the_stream(name: str) -> None:
    memory, x, state, parts = layer(name), stream(time=17), None, []
    with torch.no_grad():
        for t in range(17):
            y, state = memory(x[:, t : t + 1], state)
            parts.append(y)
    assert_near(torch.cat(parts, dim=1), memory(x)[0])


@every_layer
def test_the_gradients_of_a_stream_in_pieces_are_those_of_the_stream(name: str) -> None:
    found = []
    for cuts in ([0, 17], [0, 5, 6, 12, 17]):
        memory, x, state, total = layer(name), stream(time=17).requires_grad_(), None, torch.zeros((), dtype=torch.float64)
        for start, stop in pairwise(cuts):
            y, state = memory(x[:, start:stop], state)
            total = total + (y * torch.arange(start, stop)[:, None]).sum()
        total.backward()
        found.append({"x": x.grad, **{path: w.grad for path, w in memory.named_parameters()}})
    for path, slope in found[0].items():
        other = found[1][path]
        assert slope is not None, path
        assert other is not None, path
        assert bool(slope.any()), path
        assert_near(slope, other, {torch.float64: 1e-8}, path)


@every_layer
def test_the_future_is_not_seen(name: str) -> None:
    memory, x = layer(name), stream(time=13)
    whole = memory(x)[0]
    for t in (0, 3, 4, 6, 11):  # within and at the bounds of chunks and shards
        assert torch.equal(memory(torch.cat([x[:, :t], stream(time=13, seed=1)[:, t:]], dim=1))[0][:, :t], whole[:, :t])


# ---- rows of their own


@some_layers
@settings(max_examples=2)
@given(data=st.data())
@torch.no_grad()
def test_padding_anywhere_leaves_no_trace(name: str, data: st.DataObject) -> None:
    memory, x = layer(name), stream(batch=3, time=14)
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=14, max_size=14)) for _ in range(3)])
    y, state = memory(torch.where(mask.unsqueeze(-1), x, torch.nan), mask=mask)
    assert not y[~mask].any()
    more = stream(batch=3, time=9, seed=5)
    later = memory(more, state)[0]
    for b in range(3):
        alone, after = memory(x[b : b + 1, mask[b]])
        assert_near(y[b, mask[b]], alone[0], what="outputs")
        assert int(state.clock[b]) == int(mask[b].sum())
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")


@every_layer
def test_packed_sequences_are_rows_of_their_own(name: str) -> None:
    memory, x, bounds = layer(name), stream(batch=1, time=17), [0, 9, 9, 10, 17]
    y, state = memory(x, cu_seqlens=torch.tensor(bounds))
    more = stream(batch=4, time=3, seed=5)
    later = memory(more, state)[0]
    for b, (start, stop) in enumerate(pairwise(bounds)):
        alone, after = memory(x[:, start:stop])
        assert_near(y[:, start:stop], alone, what="outputs")
        assert_near(later[b : b + 1], memory(more[b : b + 1], after)[0], what="outputs of the next call")
    assert state.clock.tolist() == [9, 0, 1, 7]


@every_layer
def test_rows_at_different_places_decode_token_by_token(name: str) -> None:
    memory, x, lengths = layer(name), stream(batch=3, time=18), [2, 7, 0]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        whole = memory(x)[0]
        _, state = memory(x[:, :7], mask=mask)
        for step in range(10):
            y, state = memory(torch.stack([x[b, length + step] for b, length in enumerate(lengths)]).unsqueeze(1), state)
            for b, length in enumerate(lengths):
                assert_near(y[b, 0], whole[b, length + step], what=f"row {b}, step {step}")


def test_rows_are_chosen_reset_and_joined() -> None:
    memory, x, more = layer(), stream(batch=3, time=13), stream(batch=3, time=9, seed=1)
    _, state = memory(x)
    going_on, fresh = memory(more, state)[0], memory(more)[0]
    y, after = memory(more, memory.reset(state, torch.tensor([False, True, False])))
    assert_near(y, torch.stack([going_on[0], fresh[1], going_on[2]]))
    assert after.clock.tolist() == [22, 9, 22]
    assert_near(memory(more[[2, 0]], state[[2, 0]])[0], going_on[[2, 0]])
    joined = TNTState.cat([state[1:], memory.start(2)])
    assert_near(memory(torch.cat([more[1:], more[:2]]), joined)[0], torch.cat([going_on[1:], fresh[:2]]))


# ---- writing and not writing


@every_layer
@pytest.mark.parametrize("time", [0, 11, 12, 14])
def test_reading_only_answers_from_the_memories_as_they_stand(name: str, time: int) -> None:
    memory, z = layer(name, **_without_convolution(name)), stream(time=9, seed=1)
    _, state = memory(stream(time=time))
    before = [tensor.clone() for _, tensor in state.named_tensors()]
    y, after = memory(z, state, write=False)
    assert after is state
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, state.named_tensors(), strict=True))
    for t in range(9):
        assert_near(y[:, t : t + 1], memory(z[:, t : t + 1], state, write=False)[0])
    unwritten, _ = memory(z[:, :1], state, write_mask=torch.zeros(2, 1, dtype=torch.bool))
    if memory.rule.step_every == 1:
        assert_near(y[:, :1], unwritten)


def _without_convolution(name: str) -> dict[str, object]:
    given = LAYERS[name].get("projections", Projections())
    assert isinstance(given, Projections)
    return {"projections": replace(given, conv=1)}


def test_tokens_left_out_by_the_write_mask_are_not_learnt_but_counted() -> None:
    memory, x = layer("tnt", **_without_convolution("tnt")), stream(time=14)
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[0, 6:10] = False
    y, state = memory(x, write_mask=mask)
    whole, _ = memory(x)
    assert state.clock.tolist() == [14, 14]
    assert_near(y[1], whole[1])
    assert_near(y[0, :6], whole[0, :6])
    other = torch.where(mask.unsqueeze(-1), x, stream(time=14, seed=7))
    assert_near(memory(other, write_mask=mask)[0][mask], y[mask])
    nothing = memory(x, write_mask=torch.zeros_like(mask))[1]
    for name, part in nothing.parts().items():
        for weight, value in memory.start(2).parts()[name].accumulator.items():
            assert_near(part.accumulator[weight], value, what=f"{name} {weight}")


# ---- the state


@every_layer
def test_a_state_is_saved_and_gone_on_from(name: str, tmp_path: Path) -> None:
    memory, x = layer(name), stream(time=17)
    whole, _ = memory(x)
    _, state = memory(x[:, :7])
    rules = dict.fromkeys(state.parts(), presets.linear_attention())
    for part, inner in state.parts().items():
        save_state(inner, tmp_path / part, rules[part])
    loaded = TNTState.of_parts({part: load_state(tmp_path / part, rule) for part, rule in rules.items()})
    named = dict(state.detach().named_tensors())
    assert all(torch.equal(tensor, named[path]) for path, tensor in loaded.named_tensors())
    for again in (loaded, TNTState.of(named)):
        assert_near(memory(x[:, 7:], again)[0], whole[:, 7:])
    assert not any(tensor.requires_grad for _, tensor in state.detach().named_tensors())
    assert {tensor.dtype for _, tensor in state.to(dtype=torch.float32).named_tensors() if tensor.is_floating_point()} == {torch.float32}


def test_a_layer_loads_and_trains() -> None:
    torch.manual_seed(0)
    memory, x = TNTMemory(8, heads=2, rule=presets.tnt(chunk=16), locals=LOCALS), torch.randn(2, 70, 8)
    optimiser, losses = torch.optim.AdamW(memory.parameters(), lr=1e-2), []
    for _ in range(5):
        optimiser.zero_grad()
        loss = (memory(x)[0] - x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    other = TNTMemory(8, heads=2, rule=presets.tnt(chunk=16), locals=LOCALS)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(x)[0], memory(x)[0])


def test_a_layer_in_bfloat16_keeps_its_memories_in_float32() -> None:
    memory, x = layer().bfloat16(), stream(time=14).bfloat16()
    y, state = memory(x)
    assert y.dtype == torch.bfloat16
    assert {w.dtype for part in state.parts().values() for w in part.accumulator.values()} == {torch.float32}
    assert float((y.double() - layer()(x.double())[0]).detach().abs().max()) < 0.1


@every_layer
def test_calls_of_no_tokens_and_of_no_rows_are_answered(name: str) -> None:
    memory = layer(name)
    _, state = memory(stream(time=12))
    y, after = memory(stream(time=0), state)
    assert y.numel() == 0
    same_place(after, state)
    assert memory(stream(batch=0))[1].batch == 0


def test_keys_of_nothing_do_not_break_the_projection() -> None:
    memory = layer(projections=Projections(norm=None, conv=1))
    x = torch.zeros(2, 14, DIM, dtype=torch.float64).requires_grad_()
    y, _ = memory(x)
    y.sum().backward()
    assert bool(torch.isfinite(y).all())
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"heads": 4}, "heads must be positive and divide dim, got heads=4 and dim=6"),
        ({"projections": Projections(values="next")}, r"binds pairs within a step, .* Use values='same'"),
        ({"rule": replace(presets.titans(), anchor=Anchor(residual="weights"))}, "TNTMemory is called beside none"),
        ({"rule": presets.gated_delta_net()}, "gradients at the decayed memory need update_every=1, got 2"),
        ({"rule": presets.ttt_mlp(), "projections": Projections(features=Polynomial())}, "makes keys of width 3 into keys of width 10, .* Cure: "),
        ({"engine": "fast"}, "there is no engine 'fast'"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_its_cure(settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        layer("tnt", **settings)
    with pytest.raises(EngineRefusal):
        layer(engine="delta")


def test_a_shard_that_ends_within_a_chunk_is_refused() -> None:
    for chunk, shard in ((3, 8), (0, 8), (4, 0)):
        with pytest.raises(ValueError, match=rf"divide Local.shard, got chunk={chunk} and shard={shard}"):
            Local(chunk=chunk, shard=shard)


def test_a_call_that_does_not_fit_is_refused_with_its_cure() -> None:
    memory, x = layer(), stream()
    with pytest.raises(ValueError, match=r"reads a stream of width 6, got x of shape \[2, 11, 5\]"):
        memory(x[..., :5])
    with pytest.raises(StateMismatch, match=r"the state has 3 rows and the input 2\. Choose rows with"):
        memory(x, memory.start(3))
    for other in (layer("momentum"), layer(locals=LOCALS[:1]), layer("features")):
        with pytest.raises(StateMismatch, match="not one of this layer's"):
            memory(x, other.start(2))
    seeing = layer(rule=_seeing_each_other())
    _, state = seeing(x)
    with pytest.raises(ValueError, match=r"AttentionMLP reads tokens together .* it cannot stand still"):
        seeing(x, state, write=False)


def _seeing_each_other() -> MemoryRule:
    return replace(presets.tnt(chunk=4), structure=structure.AttentionMLP())


def test_tokens_that_see_each_other_are_a_stream_too() -> None:
    memory, x = layer(rule=_seeing_each_other()), stream(time=14)
    whole, _ = memory(x)
    first, state = memory(x[:, :5])
    assert_near(torch.cat([first, memory(x[:, 5:], state)[0]], dim=1), whole)


def test_the_output_is_the_sum_of_the_answers() -> None:
    """Without local memories a layer is its global memory; each further one adds what it says."""
    bare: dict[str, object] = {"output": Output(norm=None, gate=None, project=False)}
    both, one, x = layer("tnt", **bare), layer("tnt", **bare, locals=LOCALS[:1]), stream(time=13)
    none = layer("tnt", **bare, locals=())
    for smaller in (one, none):
        smaller.load_state_dict(both.state_dict(), strict=False)
    added: Tensor = both(x)[0] - one(x)[0]
    second = layer("tnt", **bare, locals=LOCALS[1:])
    second.load_state_dict({path.replace("memories.2", "memories.1"): w for path, w in both.state_dict().items() if "memories.1" not in path})
    assert_near(second(x)[0] - none(x)[0], added)
