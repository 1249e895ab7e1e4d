"""Streams: any split of one equals one call, padding and other rows leave no trace, and a cut leaves the memories alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from retain.core.state import MemoryState
from retain.layers import NeuralMemory
from retain.retrofit import MemoryCache, branches_of
from retain.retrofit.config import PLAIN
from tests.streams import plain
from tests.tolerances import ROWS, assert_near

from .models import LAYERS, by_hand, opened, words

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "embedding": {"values": "embedding", "layers": (0, -1)},
    "centred": {"features": "centred"},
    "delta": {"memory": {"preset": "gated_delta_net", "heads": 2, "projections": {"conv": 3}}},
}


def _in_parts(model: Any, tokens: Tensor, ends: list[int], cache: MemoryCache | None = None) -> tuple[Tensor, MemoryCache]:
    cache = MemoryCache(model.config) if cache is None else cache
    bounds = [0, *ends, tokens.shape[1]]
    with torch.no_grad():
        logits = [model(tokens[:, a:b], past_key_values=cache).logits for a, b in pairwise(bounds) if b > a]
    return torch.cat(logits, dim=1), cache


def _assert_same(mine: tuple[MemoryState, ...], others: tuple[MemoryState, ...] | list[MemoryState]) -> None:
    assert len(mine) == len(others)
    for one, two in zip(mine, others, strict=True):
        a, b = plain(one), plain(two)
        assert a.keys() == b.keys()
        for name, value in b.items():
            assert_near(a[name], value, what=name)


@pytest.mark.parametrize("kind", KINDS)
@example(ends=list(range(17)))
@given(ends=st.lists(st.integers(0, 17), min_size=1, max_size=5).map(sorted))
def test_any_split_of_a_stream_equals_one_call(kind: str, ends: list[int]) -> None:
    model, tokens = opened("qwen3", **KINDS[kind]), words(2, 17)
    whole, cache = _in_parts(model, tokens, [])
    parts, after = _in_parts(model, tokens, ends)
    assert_near(parts, whole)
    _assert_same(after.memories, cache.memories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_follows_a_cut_of_the_attention_cache_comes_of_the_memories_alone(family: str, kind: str) -> None:
    model, first, second = opened(family, **KINDS[kind]), words(2, 11), words(2, 9, seed=1)
    _, cache = _in_parts(model, first, [4])
    with torch.no_grad():
        _, states = by_hand(model, first)
        expected, after = by_hand(model, second, states)
        from_nothing, _ = by_hand(model, second)
    logits, last = _in_parts(model, second, [5], cache.memories_only())
    assert_near(logits, expected)
    _assert_same(last.memories, after)
    assert float((logits - from_nothing).abs().max()) > 0.01  # what was read before is still felt
    assert cache.get_seq_length() == 11
    assert cache.memories_only().get_seq_length() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["sdpa", "eager"])
def test_padding_leaves_no_trace_and_rows_do_not_meet(way: str, kind: str) -> None:
    dtype = torch.float32 if way == "eager" else torch.float64  # in which eager attention is not finite at padding, with memories or without
    model, tokens = opened(dtype=dtype, **KINDS[kind]), words(4, 12)
    model.set_attn_implementation(way)
    places = [range(12), range(5, 12), range(7), range(3, 8)]  # none, left, right, both sides
    mask = torch.zeros(4, 12, dtype=torch.long)
    for row, place in enumerate(places):
        mask[row, list(place)] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        out = model(tokens, attention_mask=mask, position_ids=positions)
        for row, place in enumerate(places):
            alone = model(tokens[row : row + 1, list(place)])
            assert_near(out.logits[row : row + 1, list(place)], alone.logits, ROWS)
            for mine, other in zip(out.past_key_values.memories, alone.past_key_values.memories, strict=True):
                weights = [branches_of(model)[0].memory.weights(state) for state in (mine[[row]], other)]
                for name, weight in weights[0].items():
                    assert_near(weight, weights[1][name], what=name)
        changed = model(torch.where(mask.bool(), tokens, 5), attention_mask=mask, position_ids=positions)
        assert_near(torch.where(mask[..., None].bool(), changed.logits, 0.0), torch.where(mask[..., None].bool(), out.logits, 0.0), ROWS)


def test_a_padded_stream_goes_on_as_its_rows_alone() -> None:
    model, tokens = opened(), words(2, 10)
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, :4] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = MemoryCache(model.config)
    with torch.no_grad():
        parts = [
            model(tokens[:, a:b], attention_mask=mask[:, :b], position_ids=positions[:, a:b], past_key_values=cache).logits
            for a, b in ((0, 2), (2, 6), (6, 7), (7, 10))  # the first of them is padding alone in a row
        ]
        both = torch.cat(parts, dim=1)
        assert_near(both[:1], model(tokens[:1]).logits, ROWS)
        assert_near(both[1:, 4:], model(tokens[1:, 4:]).logits, ROWS)


def test_forks_go_separate_ways_and_reset_begins_anew() -> None:
    model, tokens = opened(), words(2, 12)
    _, cache = _in_parts(model, tokens[:, :7], [])
    fork, kept, positions = cache.fork(), cache.memories, cache.get_seq_length()
    other, _ = _in_parts(model, words(2, 5, seed=3), [], fork)
    assert cache.memories is kept
    assert cache.get_seq_length() == positions
    assert fork.get_seq_length() == positions + 5
    whole, _ = _in_parts(model, tokens, [])
    rest, _ = _in_parts(model, tokens[:, 7:], [], cache)
    assert_near(rest, whole[:, 7:])
    assert not torch.allclose(other, rest)
    cache.reset()
    assert (cache.get_seq_length(), cache.rows, cache.bytes_per_row()) == (0, 0, 0)
    again, _ = _in_parts(model, tokens, [3], cache)
    assert_near(again, whole)


def test_a_detached_cache_has_the_numbers_without_the_graph() -> None:
    model, tokens = opened(), words(2, 9)
    cache = model(tokens, use_cache=True).past_key_values
    cut = cache.detach()
    _assert_same(cut.memories, cache.memories)
    tensors = [t for state in cut.memories for _, t in state.tensors()] + [t for layer in cut.layers for t in (layer.keys, layer.values)]
    assert not any(t.requires_grad for t in tensors)
    assert any(t.requires_grad for state in cache.memories for _, t in state.tensors())
    assert torch.equal(cut.layers[-1].keys, cache.layers[-1].keys)
    assert cut.get_seq_length() == cache.get_seq_length() == 9


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("rows", [[1], [2, 0, 0], [0, 1, 2]])
def test_rows_are_chosen_repeated_and_reordered(rows: list[int], cut: bool) -> None:
    model, first, second = opened(), words(3, 7), words(3, 6, seed=1)

    def begun() -> MemoryCache:
        _, cache = _in_parts(model, first, [])
        return cache.memories_only() if cut else cache

    expected, _ = _in_parts(model, second, [], begun())
    index = torch.tensor(rows)
    chosen = begun()
    chosen.batch_select_indices(index)
    assert_near(_in_parts(model, second[index], [], chosen)[0], expected[index], ROWS)
    if len(rows) == 3:
        reordered = begun()
        reordered.reorder_cache(index)
        assert_near(_in_parts(model, second[index], [], reordered)[0], expected[index], ROWS)
    repeated = begun()
    repeated.batch_repeat_interleave(2)
    assert repeated.rows == 6
    assert_near(_in_parts(model, second.repeat_interleave(2, 0), [], repeated)[0], expected.repeat_interleave(2, 0), ROWS)


def test_caches_that_do_not_fit_are_refused_before_anything_is_read() -> None:
    model, tokens = opened(), words(2, 6)
    with pytest.raises(TypeError, match=r"was given a DynamicCache.*MemoryCache\(model.config\)"):
        model(tokens, past_key_values=DynamicCache(config=model.config))
    _, cache = _in_parts(model, tokens, [])
    with pytest.raises(ValueError, match=r"of 2 rows.*3 rows"):
        model(words(3, 4), past_key_values=cache)
    with pytest.raises(ValueError, match=rf"has {LAYERS} memories.*the model 1"):
        opened(layers=(0,))(tokens, past_key_values=cache)
    with pytest.raises(ValueError, match="weights of another shape"):
        opened(memory={"heads": 4})(tokens, past_key_values=cache)
    assert cache.get_seq_length() == 6
    with pytest.raises(NotImplementedError, match="cannot unlearn"):
        cache.crop(-1)
    assert cache.get_seq_length() == 6
    assert repr(cache) == f"MemoryCache(6 positions, {LAYERS} memories of 2 rows)"


def test_a_memory_takes_as_much_room_after_five_thousand_tokens_as_after_fifty() -> None:
    model = opened(dtype=torch.float32, layers=(1,), memory={"heads": 2, "rule": {"update_every": 50}})
    cache, sizes = MemoryCache(model.config), []
    for seed, time in enumerate([50, 50, 400, *[500] * 9]):
        _, cache = _in_parts(model, words(2, time, seed), [], cache.memories_only())
        sizes.append(cache.bytes_per_row())
    assert len({*sizes}) == 1
    assert int(cache.memories[0].clock[0]) == 5000
    weights = sum(weight.numel() * 4 for weight in branches_of(model)[0].memory.weights(cache.memories[0]).values()) // 2
    assert weights <= sizes[0] < 20 * weights


def test_a_token_that_completes_no_step_of_a_plain_memory_is_only_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding is cheap by that: nothing of what a memory does with a whole call is done for it."""
    model = opened(memory=dict(PLAIN), refine=4)
    tokens = words(2, 12)
    expected, _ = _in_parts(model, tokens, [])
    begun, cache = _in_parts(model, tokens[:, :9], [])

    def forward(*_: Any, **__: Any) -> None:
        pytest.fail("a whole call was made of one token")

    monkeypatch.setattr(NeuralMemory, "forward", forward)
    going, _ = _in_parts(model, tokens[:, 9:], [1, 2], cache)
    assert_near(torch.cat([begun, going], dim=1), expected, ROWS)
