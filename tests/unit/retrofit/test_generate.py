"""Writing text with memories: every way of decoding gives what running all anew for each word gives."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerFast, TextIteratorStreamer, pipeline, set_seed

from retain.core.state import MemoryState
from retain.retrofit import MemoryCache, disable_memory

from .models import VOCABULARY, base, by_hand, opened, plain_words, words

GREEDY: dict[str, Any] = {"max_new_tokens": 7, "do_sample": False, "eos_token_id": None}
TEMPLATE = (
    "{% for message in messages %}{{ '<s> ' + message['role'] + ' ' + message['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)


def _with_memories(model: Any, rows: int = 1) -> MemoryCache:
    """A cache that has read something, cut off."""
    with torch.no_grad():
        return model(words(rows, 9, seed=4), use_cache=True).past_key_values.memories_only()


def _beams(model: Any, prompt: Tensor, beams: int, steps: int, before: tuple[MemoryState, ...] | None = None) -> Tensor:
    """Beam search as it is defined, without an end of sentence: the likeliest continuations of all, one word more each time."""
    kept, scores = prompt, torch.zeros(1, dtype=torch.float64)
    for _ in range(steps):
        states = None if before is None else [state[[0] * len(kept)] for state in before]
        total = scores[:, None] + by_hand(model, kept, states)[0][:, -1].log_softmax(-1)
        scores, best = total.flatten().topk(beams)
        kept = torch.cat([kept[best // VOCABULARY], best[:, None] % VOCABULARY], dim=1)
    return kept


@pytest.mark.parametrize("kind", [{}, {"values": "embedding", "features": "centred"}])
def test_greedy_words_are_those_of_running_all_anew(kind: dict[str, Any]) -> None:
    model, prompt = opened(**kind), words(1, 6)
    expected = plain_words(model, prompt, 7)
    assert torch.equal(model.generate(prompt, **GREEDY), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, use_cache=False), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, past_key_values=MemoryCache(model.config)), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, prefill_chunk_size=4), expected)
    assert torch.equal(model.generate(prompt, **GREEDY, cache_implementation="dynamic"), expected)
    assert not torch.equal(base().generate(prompt, **GREEDY), expected)
    with disable_memory(model):
        assert torch.equal(model.generate(prompt, **GREEDY), base().generate(prompt, **GREEDY))


def test_a_padded_batch_writes_what_its_rows_write_alone() -> None:
    model, prompts = opened(), [words(1, time, seed=time) for time in (3, 8, 5)]
    batch, mask = torch.zeros(3, 8, dtype=torch.long), torch.zeros(3, 8, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        batch[row, -prompt.shape[1] :], mask[row, -prompt.shape[1] :] = prompt[0], 1
    for beams in (1, 3):
        settings = {**GREEDY, "max_new_tokens": 4, "num_beams": beams}
        together = model.generate(batch, attention_mask=mask, **settings)
        for row, prompt in enumerate(prompts):
            alone = model.generate(prompt, **settings)
            assert torch.equal(together[row, 8 - prompt.shape[1] :], alone[0])


def test_beams_are_those_of_the_definition() -> None:
    model, prompt = opened(), words(1, 5)
    beams = {**GREEDY, "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5}
    expected = _beams(model, prompt, 3, 5)
    assert not torch.equal(expected[0], plain_words(model, prompt, 5)[0])  # beams do other than the greedy do
    assert torch.equal(model.generate(prompt, **beams), expected)
    assert torch.equal(model.generate(prompt, **beams, use_cache=False), expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_conversation_goes_on_after_a_cut(beams: int) -> None:
    model, prompt = opened(), words(1, 5)
    cache = _with_memories(model)
    memories = cache.memories
    expected = _beams(model, prompt, beams, 5, memories)[:1]
    settings = {**GREEDY, "num_beams": beams, "max_new_tokens": 5}
    assert not torch.equal(model.generate(prompt, **settings), expected)  # what was read is felt
    assert torch.equal(model.generate(prompt, **settings, past_key_values=cache), expected)
    if beams == 1:
        assert cache.get_seq_length() == 5 + 5 - 1  # the last word has not been read yet
        again = torch.cat([expected, words(1, 3, seed=6)], dim=1)
        assert torch.equal(model.generate(again, **settings, past_key_values=cache), plain_words(model, again, 5, memories))
    else:
        assert cache.memories is memories  # each beam goes on by itself
    both = _with_memories(model, rows=2)
    prompts = words(2, 4, seed=7)
    rows = [both.fork(), both.fork()]
    for row, kept in enumerate(rows):
        kept.batch_select_indices(torch.tensor([row]))
    together = model.generate(prompts, **settings, past_key_values=both)
    for row, kept in enumerate(rows):
        assert torch.equal(model.generate(prompts[row : row + 1], **settings, past_key_values=kept), together[row : row + 1])


def test_samples_are_those_of_running_all_anew() -> None:
    model, prompt = opened(), words(2, 5)
    drawn = {"max_new_tokens": 6, "do_sample": True, "eos_token_id": None, "num_return_sequences": 2, "top_k": 0}
    found = []
    for cached in (True, False, True):
        set_seed(3)
        found.append(model.generate(prompt, **drawn, use_cache=cached))
    assert found[0].shape == (4, 11)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])
    set_seed(3)
    cache = _with_memories(model, rows=2)
    kept = model.generate(prompt, **drawn, past_key_values=cache, return_dict_in_generate=True)
    assert not torch.equal(kept.sequences, found[0])
    assert kept.past_key_values.rows == 4
    assert (cache.rows, cache.get_seq_length()) == (2, 0)


def test_ways_in_which_memories_would_be_lost_are_refused() -> None:
    model, prompt = opened(), words(1, 5)
    with pytest.raises(TypeError, match="was given a DynamicCache"):
        model.generate(prompt, **GREEDY, past_key_values=DynamicCache(config=model.config))
    for kind in ("static", "offloaded", "quantized"):
        with pytest.raises(ValueError, match=f"cache_implementation='{kind}'"):
            model.generate(prompt, **GREEDY, cache_implementation=kind)
    for way in ({"assistant_model": base()}, {"prompt_lookup_num_tokens": 2}):
        with pytest.raises(ValueError, match="cannot unlearn"):
            model.generate(prompt, **GREEDY, **way)
    with pytest.raises(ValueError, match="cannot unlearn"):  # the helper takes tokens back, too
        base().generate(prompt, **GREEDY, assistant_model=model)
    with pytest.raises(ValueError, match="without use_cache"):
        model.generate(prompt, **GREEDY, past_key_values=_with_memories(model), use_cache=False)
    with pytest.raises(ValueError, match=r"of 2 rows.*1 rows"):
        model.generate(prompt, **GREEDY, past_key_values=_with_memories(model, rows=2))
    with disable_memory(model):
        assert torch.equal(model.generate(prompt, **GREEDY, prompt_lookup_num_tokens=2), base().generate(prompt, **GREEDY))


def _tokenizer() -> PreTrainedTokenizerFast:
    known = ["<pad>", "<s>", "</s>", "<unk>", "user", "assistant", *(f"w{i}" for i in range(VOCABULARY - 6))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=TEMPLATE, padding_side="left", **marks)


def test_chats_stream_and_pipelines_say_the_same() -> None:
    model, tokenizer = opened(), _tokenizer()
    chat = [{"role": "user", "content": "w3 w7 w1"}, {"role": "assistant", "content": "w2"}, {"role": "user", "content": "w9"}]
    inputs: Any = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt", add_generation_prompt=True)
    expected = plain_words(model, inputs["input_ids"], 7)
    assert torch.equal(model.generate(**inputs, **GREEDY), expected)
    said = tokenizer.decode(expected[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    thread = Thread(target=model.generate, kwargs={**inputs, **GREEDY, "streamer": streamer})
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces).split() == said.split()
    assert len(pieces) > 1

    chats = [chat, [{"role": "user", "content": "w5"}]]
    answers = pipeline("text-generation", model=model, tokenizer=tokenizer, batch_size=2)(chats, **GREEDY, return_full_text=False)
    assert answers[0][0]["generated_text"].split() == said.split()
