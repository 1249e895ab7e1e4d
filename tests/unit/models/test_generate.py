"""Generation: what a model says with its cache is what it says without, however the prompt is cut, padded or searched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.models import RetainCache, RetainConfig, RetainForCausalLM
from tests.tolerances import assert_near

VOCABULARY, WINDOW = 13, 4
LEVELS = [{"every": 2, "options": {"lr": 0.05}, "learnt_rate": True}, {"every": 4, "optimizer": "Momentum", "options": {"lr": 0.1}}]
KINDS: dict[str, dict[str, Any]] = {
    "mac": {"block": "mac"},
    "mag": {"block": "mag", "num_key_value_heads": 1},
    "mal": {"block": "mal"},
    "lmm": {"block": "lmm"},
    "memory_before_attention": {"block": "memory_before_attention"},
    "mixed": {"block": ["mag", "sliding_window"], "gating": "add"},
    "nested": {"block": ["mag", "mal"], "attention": "nested", "persistent_tokens": 0},
    "implicit": {"block": ["sliding_window", "lmm"], "attention": "implicit_mlp", "persistent_tokens": 0},
    "hope": {"block": "hope", "levels": LEVELS, "self_modifying": {"rule": {"chunk": 2}, "heads": 2}},
    "hope_attention": {"block": ["hope_attention", "mag"], "levels": LEVELS, "level_form": "nested"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def config(kind: str, **others: Any) -> RetainConfig:
    memory = {"rule": {"expansion": 1.5, "update_every": 2}, "heads": 2, "gates": {"lr": 0.3}}
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "window": WINDOW, "persistent_tokens": 2}
    return RetainConfig(**{**sizes, "memory": memory, "pad_token_id": 0, **KINDS[kind], **others})


def model(kind: str, **others: Any) -> RetainForCausalLM:
    torch.manual_seed(0)
    made = RetainForCausalLM(config(kind, **others)).double().eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if any(part in name for part in ("conv", "gates", "initial")):
                weight += 0.2 * torch.randn_like(weight)
    return made


def tokens(batch: int, time: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))


@every_kind
@pytest.mark.parametrize("length", [1, 11])  # a token, and more than two windows
def test_cached_generation_is_uncached_generation(kind: str, length: int) -> None:
    speaker = model(kind)
    said = [speaker.generate(tokens(2, length), max_new_tokens=7, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert torch.equal(said[0], said[1])


@every_kind
@pytest.mark.parametrize("sizes", [(1,) * 11, (4, 7), (5, 0, 6), (10, 1)], ids=str)
def test_logits_are_the_same_in_any_split(kind: str, sizes: tuple[int, ...]) -> None:
    speaker, x = model(kind), tokens(2, 11)
    cache, found = RetainCache(), []
    for part in x.split(sizes, dim=1):
        out = speaker(part, past_key_values=cache)
        assert out.past_key_values is cache
        found.append(out.logits)
    assert_near(torch.cat(found, dim=1), speaker(x).logits)
    assert cache.get_seq_length() == 11


@every_kind
def test_padding_on_either_side_changes_nothing(kind: str) -> None:
    speaker, lengths = model(kind), [3, 7, 5]
    alone = [tokens(1, length, seed=length) for length in lengths]
    said = [speaker.generate(x, max_new_tokens=6, do_sample=False)[0, x.shape[1] :] for x in alone]
    padded, mask = torch.zeros(3, 7, dtype=torch.long), torch.zeros(3, 7, dtype=torch.long)
    for row, x in enumerate(alone):
        padded[row, 7 - x.shape[1] :], mask[row, 7 - x.shape[1] :] = x[0], 1
    together = speaker.generate(padded, attention_mask=mask, max_new_tokens=6, do_sample=False)[:, 7:]
    assert torch.equal(together, torch.stack(said))
    right = speaker(padded.flip(1), attention_mask=mask.flip(1)).logits
    for row, x in enumerate(alone):
        assert_near(right[row, : x.shape[1]], speaker(x.flip(1)).logits[0])


@every_kind
def test_beam_search_with_a_cache_is_beam_search_without(kind: str) -> None:
    speaker, x = model(kind), tokens(2, 5)
    settings: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "num_return_sequences": 2}
    assert torch.equal(speaker.generate(x, **settings), speaker.generate(x, use_cache=False, **settings))


def test_sampling_is_the_same_for_the_same_seed_and_differs_for_another() -> None:
    speaker, x = model("mac"), tokens(2, 5)

    def said(seed: int, **others: Any) -> Tensor:
        torch.manual_seed(seed)
        return speaker.generate(x, max_new_tokens=12, do_sample=True, top_k=5, **others)

    assert torch.equal(said(0), said(0, use_cache=False))
    assert not torch.equal(said(0), said(1))


def test_a_conversation_goes_on_from_its_cache() -> None:
    speaker, x, more = model("mag"), tokens(1, 6), tokens(1, 3, seed=1)
    first = speaker.generate(x, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
    assert not isinstance(first, Tensor)
    cache = first["past_key_values"]
    assert isinstance(cache, RetainCache)
    assert cache.get_seq_length() == 9  # the last token that was said has not been read
    whole = torch.cat([first["sequences"], more], dim=1)
    kept = cache.fork()
    then = speaker.generate(whole, past_key_values=cache, max_new_tokens=4, do_sample=False)
    assert torch.equal(then, speaker.generate(whole, max_new_tokens=4, do_sample=False))
    assert kept.get_seq_length() == 9
    assert torch.equal(speaker.generate(whole, past_key_values=kept, max_new_tokens=4, do_sample=False), then)


def test_a_memory_that_may_not_write_says_something_else() -> None:
    speaker, x = model("lmm"), tokens(2, 11)
    silent, open_ = speaker(x, write=False).logits, speaker(x).logits
    assert float((silent - open_).detach().abs().max()) > 1e-3


def test_a_cache_does_not_grow_and_cannot_be_cropped() -> None:
    speaker, sizes = model("mac"), []
    for length in (40, 400):
        cache = speaker(tokens(1, length)).past_key_values
        assert cache is not None
        sizes.append(sum(state.bytes_per_row() for state in cache.states))
    assert sizes[0] == sizes[1]
    with pytest.raises(NotImplementedError, match="fork"):
        RetainCache().crop(3)


def test_a_cache_of_other_rows_is_refused() -> None:
    speaker = model("mag")
    cache = speaker(tokens(2, 3)).past_key_values
    with pytest.raises(ValueError, match="the cache has 2 rows and the input 3"):
        speaker(tokens(3, 3), past_key_values=cache)


def test_rows_of_a_cache_are_repeated_and_chosen() -> None:
    speaker, x = model("mac"), tokens(2, 6)
    cache = speaker(x).past_key_values
    assert cache is not None
    cache = copy.copy(cache.detach())
    cache.batch_repeat_interleave(2)
    assert cache.batch == 4
    cache.batch_select_indices(torch.tensor([3, 0]))
    found = speaker(x[[1, 0], :2], past_key_values=cache).logits
    again = speaker(torch.cat([x, x[:, :2]], dim=1)).logits[[1, 0], 6:]
    assert_near(found, again)
    cache.reset()
    assert (len(cache), cache.get_seq_length()) == (0, 0)
