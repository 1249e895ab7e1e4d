"""Levels that learn in the stream: in any split, any company and any mode they come to the same, and outer gradients see all of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retain.models import RetainCache, RetainConfig, RetainForCausalLM
from tests.paper.test_nested_hope import WORDS, hope, words
from tests.tolerances import GRADIENTS, assert_near

LEVELS = [{"every": 3, "options": {"lr": 0.1}, "learnt_rate": True}, {"every": 6, "optimizer": "Momentum", "options": {"lr": 0.1}}]
KINDS: dict[str, dict[str, Any]] = {
    "hope": {"block": "hope"},
    "hope_attention": {"block": "hope_attention", "level_form": "nested", "num_attention_heads": 1},
    "lmm": {"block": "lmm", "level_form": "independent"},
    "mac": {"block": "mac", "persistent_tokens": 1, "num_attention_heads": 1},
    "delta": {"block": ["lmm", "convolution"], "memory": {"preset": "delta_net"}},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def model(kind: str, **given: Any) -> RetainForCausalLM:
    settings = {"levels": LEVELS, "window": 4, "memory": {"rule": {"expansion": 1.5, "update_every": 2}}, "layers": 2, **KINDS[kind]}
    return hope(**{**settings, **given})


def in_parts(speaker: RetainForCausalLM, ids: Tensor, *sizes: int) -> Tensor:
    cache = RetainCache()
    return torch.cat([speaker(part, past_key_values=cache).logits for part in ids.split(sizes, dim=1)], dim=1)


def gradients(speaker: RetainForCausalLM, logits: Tensor) -> dict[str, Tensor]:
    weights = dict(speaker.named_parameters())
    mix = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=logits.dtype)
    found = torch.autograd.grad((logits * mix).sum(), list(weights.values()), allow_unused=True)
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), found, strict=True)}


@every_kind
def test_any_split_has_the_scores_and_the_gradients_of_one_call(kind: str) -> None:
    speaker, ids = model(kind), words(2, 13)
    whole = speaker(ids).logits
    expected = gradients(speaker, whole)
    for sizes in ((1,) * 13, (5, 0, 8)):
        parts = in_parts(speaker, ids, *sizes)
        assert_near(parts, whole)
        for name, found in gradients(speaker, parts).items():
            assert_near(found, expected[name], GRADIENTS, name)


@every_kind
def test_without_an_outer_gradient_the_levels_learn_the_same(kind: str) -> None:
    speaker, ids = model(kind), words(2, 13)
    whole = speaker(ids).logits.detach()
    with torch.no_grad():
        assert_near(speaker(ids).logits, whole)
        assert_near(in_parts(speaker, ids, 4, 1, 8), whole)
    assert float((speaker(ids, write=False).logits - whole).detach().abs().max()) > 1e-3
    assert_near(model(kind, through_levels=False)(ids).logits.detach(), whole)
    frozen = speaker.requires_grad_(False)
    assert_near(frozen(ids).logits, whole)


@every_kind
def test_rows_of_all_lengths_learn_each_as_if_it_were_alone(kind: str) -> None:
    speaker, ids, lengths = model(kind), words(3, 13), [13, 2, 7]
    mask = torch.stack([torch.arange(13) >= 13 - n for n in lengths]).long()
    found = speaker(ids, attention_mask=mask).logits
    cache, parts = RetainCache(), []
    for part, there in zip(ids.split((4, 6, 3), dim=1), mask.split((4, 6, 3), dim=1), strict=True):
        parts.append(speaker(part, attention_mask=there, past_key_values=cache).logits)
    expected = gradients(speaker, torch.cat([found[row, 13 - n :] for row, n in enumerate(lengths)]))
    again = gradients(speaker, torch.cat([torch.cat(parts, 1)[row, 13 - n :] for row, n in enumerate(lengths)]))
    for row, n in enumerate(lengths):
        alone = speaker(ids[row : row + 1, 13 - n :]).logits
        assert_near(found[row, 13 - n :], alone[0])
        assert_near(torch.cat(parts, 1)[row, 13 - n :], alone[0])
    for name, one in expected.items():
        assert_near(again[name], one, GRADIENTS, name)


@every_kind
def test_the_outer_gradient_reaches_every_start_and_is_the_slope(kind: str) -> None:
    """Along a random direction of all weights, the gradient through the steps is the difference quotient, and no start is left out."""
    speaker, ids = model(kind), words(2, 14)
    found = gradients(speaker, speaker(ids).logits)
    silent = [name for name, g in found.items() if not bool(g.abs().max() > 0)]
    assert not silent
    torch.manual_seed(1)
    way, step = {name: torch.randn_like(w) for name, w in speaker.named_parameters()}, 3e-8

    def at(distance: float) -> float:
        with torch.no_grad():
            for name, weight in speaker.named_parameters():
                weight += distance * way[name]
            value = float((speaker(ids).logits * mix).sum())
            for name, weight in speaker.named_parameters():
                weight -= distance * way[name]
        return value

    mix = torch.randn((2, 14, WORDS), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    slope = (at(step) - at(-step)) / (2 * step)
    assert sum(float((found[name] * way[name]).sum()) for name in way) == pytest.approx(slope, rel=1e-5)


def test_a_start_is_seen_through_the_steps_alone_if_its_rate_is_learnt() -> None:
    """Without gradients through the steps a rate that is learnt still has one, and weights have another than with them."""
    ids = words(2, 14)
    through, around = (gradients(each, each(ids).logits) for each in (model("hope"), model("hope", through_levels=False)))
    rate = "model.layers.0.continuum.blocks.0.log_rate"
    assert float(around[rate].abs()) > 1e-6
    start = "model.layers.0.continuum.blocks.0.up.weight"
    assert float((through[start] - around[start]).abs().max()) > 1e-4


def test_an_update_of_a_level_is_seen_by_all_faster_ones() -> None:
    """With another rate of the slow level, the fast one learns as before up to the slow one's step, and differently from then on."""

    def fast(rate: float, time: int) -> Tensor:
        levels = [{"every": 2, "options": {"lr": 0.1}}, {"every": 4, "options": {"lr": rate}}]
        cache = hope(levels=levels)(words(1, time)).past_key_values
        return cache.states[0].tensors["levels/0/weights/up"].detach()

    assert torch.equal(fast(0.1, 5), fast(0.2, 5))  # both have taken steps at 2 and 4 tokens, the slow one's first is at 4
    assert float((fast(0.1, 7) - fast(0.2, 7)).abs().max()) > 1e-5


def test_levels_without_a_rate_are_ordinary_halves_of_a_transformer() -> None:
    still, moving = hope(levels=[{"every": 0}]), hope(levels=[{"every": 3, "options": {"lr": 0.0}}])
    moving.load_state_dict(still.state_dict())
    assert_near(moving(words(2)).logits, still(words(2)).logits)


def test_reading_without_writing_leaves_no_trace_in_what_is_learnt() -> None:
    """What levels have learnt is the same with tokens in between that they may not learn from."""
    speaker, ids, between = hope(block="hope_attention", num_attention_heads=1), words(1, 13), words(1, 4, seed=3)

    def learnt(look: bool) -> dict[str, Tensor]:
        cache = RetainCache()
        speaker(ids[:, :4], past_key_values=cache)
        if look:
            before = {name: t for name, t in cache.states[0].tensors.items() if "weights" in name}
            speaker(between, past_key_values=cache, write=False)
            assert all(torch.equal(t, cache.states[0].tensors[name]) for name, t in before.items())
        speaker(ids[:, 4:6], past_key_values=cache)
        speaker(ids[:, 6:7], past_key_values=cache)  # the label of the chunk that ends with the sixth
        return {name: t.detach() for name, t in cache.states[0].tensors.items() if "weights" in name}

    with_look, without = learnt(True), learnt(False)
    for name, weight in without.items():
        assert_near(with_look[name], weight, what=name)


def test_a_cache_goes_on_detached_forked_and_in_other_rows() -> None:
    speaker, ids, more = hope(), words(2, 8), words(2, 6, seed=2)
    cache = speaker(ids).past_key_values
    fork, detached = cache.fork(), cache.detach()
    whole = speaker(torch.cat([ids, more], dim=1)).logits[:, 8:]
    rows = torch.tensor([1, 0, 1])
    fork.reorder_cache(rows)
    assert_near(speaker(more[rows], past_key_values=fork).logits, whole[rows])
    found = speaker(more, past_key_values=detached).logits
    assert_near(found, whole)
    first = speaker.model.embed_tokens.weight
    (through,) = torch.autograd.grad(found.sum(), first)
    (behind,) = torch.autograd.grad(whole.sum(), first)
    assert float((through - behind).abs().max()) > 1e-6, "a detached cache sends no gradient back"
    assert cache.bytes_per_row() > sum(state.bytes_per_row() for state in cache.states)
    cache.reset()
    assert cache.unfinished is None


def test_what_levels_cannot_learn_from_is_refused() -> None:
    speaker, ids = hope(), words(1, 5)
    embedded = speaker.model.embed_tokens(ids).detach()
    with pytest.raises(ValueError, match=r"were given inputs_embeds\. Cure: input_ids, or write=False"):
        speaker(inputs_embeds=embedded)
    assert_near(speaker(inputs_embeds=embedded, write=False).logits, speaker(ids, write=False).logits)
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"torch.no_grad\(\)"):
        speaker(ids)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"levels": [{"evry": 3}]}, "a level has no 'evry'; it has every, optimizer"),
        ({"levels": [{"options": {}}]}, "a level needs 'every'"),
        ({"levels": [{"every": 3}, {"every": 4}]}, "3 does not divide 4"),
        ({"level_form": "loose"}, "level_form must be one of sequential, nested, independent"),
        ({"self_modifying": {"chunk": 3}}, "self_modifying has no 'chunk'; it has structure, heads"),
        ({"self_modifying": {"rule": {"chunks": 3}}}, r"self_modifying\['rule'\] has no 'chunks'"),
        ({"self_modifying": {"structure": "MLP"}}, "of the structure 'ResidualMLP' or 'Matrix', got 'MLP'"),
        ({"block": "hope_attention", "attention": "nested"}, "need 'softmax'"),
        ({"block": "hop"}, "there is no block 'hop'; choose among .*hope, hope_attention"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetainForCausalLM(
            RetainConfig(**{"vocab_size": WORDS, "hidden_size": 8, "num_attention_heads": 2, "persistent_tokens": 0, "block": "hope", **given})
        )


def test_hope_without_levels_of_its_own_has_some_and_an_empty_list_has_none() -> None:
    assert [level["every"] for level in RetainConfig(block="hope").levels] == [16, 64]
    assert RetainConfig(block="mag").levels is None
    assert not hope(levels=[]).model.levels_learn
