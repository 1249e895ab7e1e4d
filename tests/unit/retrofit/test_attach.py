"""Memories beside a pretrained model's attention: what attaching changes, and that detaching takes it all back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, LlamaForSequenceClassification
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaModel

from retain.retrofit import MemoryCache, MemoryConfig, attach, branches_of, detach, disable_memory, memory_parameters, writing
from tests.tolerances import assert_near

from .models import FAMILIES, LAYERS, MEMORY, SIZES, base, by_hand, open_gates, opened, shut, words

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "embedding": {"values": "embedding"},
    "centred": {"features": "centred"},
    "some layers": {"layers": (0, -1), "refine": 0},
    "delta": {"memory": {"preset": "delta_net", "heads": 4}, "values": "embedding"},
}


def _padded() -> dict[str, Tensor]:
    mask = torch.ones(3, 11, dtype=torch.long)
    mask[1, :4], mask[2, :9] = 0, 0
    return {"input_ids": words(3, 11) * mask, "attention_mask": mask}


def _attributes(model: Any) -> list[tuple[int, type, frozenset[str]]]:
    return [(id(module), type(module), frozenset(vars(module))) for module in model.modules()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "way", "family"),
    [
        (torch.float32, "sdpa", "llama"),
        (torch.float32, "eager", "qwen3"),
        (torch.bfloat16, "eager", "llama"),
        (torch.bfloat16, "sdpa", "qwen3"),
    ],
)
def test_at_the_start_a_model_is_its_base_to_the_last_bit(dtype: torch.dtype, way: str, family: str, kind: str) -> None:
    model = base(family, dtype)
    model.set_attn_implementation(way)
    padded = _padded()
    before, prompt = model(**padded).logits, {name: given[:2] for name, given in padded.items()}
    greedy = {"max_new_tokens": 3, "do_sample": False}
    spoken, beams = model.generate(**prompt, **greedy), model.generate(**prompt, **greedy, num_beams=3)
    shut(model, **KINDS[kind])
    assert torch.equal(model(**padded).logits, before)
    assert torch.equal(model.generate(**prompt, **greedy), spoken)
    assert torch.equal(model.generate(**prompt, **greedy, num_beams=3), beams)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_with_gates_open_a_model_is_what_the_equations_say(family: str, kind: str) -> None:
    model, tokens = opened(family, **KINDS[kind]), words(2, 13)
    out = model(tokens)
    logits, states = by_hand(model, tokens)
    assert_near(out.logits, logits)
    assert len(out.past_key_values.memories) == len(states) == len(branches_of(model))
    for mine, other in zip(out.past_key_values.memories, states, strict=True):
        for (name, one), (_, two) in zip(mine.tensors(), other.tensors(), strict=True):
            assert_near(one, two, what=name)
    with disable_memory(model):
        assert float((model(tokens).logits - logits).detach().abs().max()) > 0.1  # the memories have a say


def test_only_memories_are_added_and_only_they_learn() -> None:
    model = base()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    open_gates(shut(model, values="embedding", features="centred"))
    added = {name for name in model.state_dict() if name not in before}
    assert added
    assert all(".self_attn.memory." in name for name in added)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    model.float().train()
    model(words(2, 9), labels=words(2, 9)).loss.backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad == (name in added), name
        assert weight.grad is None or float(weight.grad.abs().max()) > 0, name
    assert {id(weight) for weight in memory_parameters(model)} == {id(model.get_parameter(n)) for n, _ in model.named_parameters() if n in added}


@pytest.mark.parametrize("family", FAMILIES)
def test_detach_gives_the_same_objects_back(family: str) -> None:
    model = base(family)
    model.lm_head.requires_grad_(False)
    padded = _padded()
    logits = model(**padded, output_hidden_states=True, output_attentions=True).logits  # which leaves hooks behind, as it may
    attributes, names = _attributes(model), list(model.state_dict())
    trainable = {name: weight.requires_grad for name, weight in model.named_parameters()}
    assert attach(model, MemoryConfig(memory=MEMORY)) is model
    open_gates(model.double())
    assert not torch.equal(model(**padded).logits, logits)
    assert detach(model) is model
    assert _attributes(model) == attributes
    assert list(model.state_dict()) == names
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == trainable
    assert torch.equal(model(**padded).logits, logits)
    with pytest.raises(ValueError, match="has no memories"):
        detach(model)
    shut(model)
    assert torch.equal(model.double()(**padded).logits, logits)


def test_the_base_within_is_the_base_with_any_cache() -> None:
    plain, model = base(), opened()
    tokens = words(2, 9)
    expected, kept = plain(tokens[:, :6], use_cache=True), None
    rest = plain(tokens[:, 6:], past_key_values=expected.past_key_values).logits
    for kept in (MemoryCache(model.config), DynamicCache(config=model.config), None):
        with disable_memory(model), disable_memory(model):
            first = model(tokens[:, :6], past_key_values=kept, use_cache=True)
            assert torch.equal(first.logits, expected.logits)
            assert torch.equal(model(tokens[:, 6:], past_key_values=first.past_key_values).logits, rest)
    full = model(words(2, 9, seed=1)).past_key_values
    memories = full.memories
    with disable_memory(model):
        assert torch.equal(model(tokens, past_key_values=full.memories_only()).logits, plain(tokens).logits)
        assert full.memories is memories
        spoken = model.generate(tokens, max_new_tokens=4, do_sample=False)
        assert torch.equal(model.generate(tokens, max_new_tokens=4, do_sample=False, past_key_values=full.memories_only()), spoken)
    assert torch.equal(spoken, plain.generate(tokens, max_new_tokens=4, do_sample=False))
    assert not torch.equal(model(tokens).logits, plain(tokens).logits)
    with pytest.raises(ValueError, match="has no memories"), disable_memory(plain):
        pass


def test_memories_stand_still_where_nothing_is_written() -> None:
    model, tokens = opened(), words(2, 9)
    cache = model(tokens[:, :5]).past_key_values
    before = [model.model.layers[i].self_attn.memory.memory.weights(state) for i, state in enumerate(cache.memories)]
    with writing(model, False):
        model(tokens[:, 5:], past_key_values=cache)
    for i, state in enumerate(cache.memories):
        for name, weight in model.model.layers[i].self_attn.memory.memory.weights(state).items():
            assert_near(weight, before[i][name], what=name)


def test_nothing_is_changed_where_attach_refuses() -> None:
    model = base()
    before, weights = _attributes(model), {name: w.requires_grad for name, w in model.named_parameters()}
    refusals: list[tuple[Any, str]] = [
        ({"layers": (LAYERS,)}, "names each layer once"),
        ({"layers": (0, -LAYERS)}, "names each layer once"),
        ({"memory": {"heads": 3}}, "divide dim"),
        ({"memory": {"preset": "titan"}}, "no preset"),
        ({"memory": {"depth": 3}}, "has no 'depth'"),
        ({"memory": {"rule": {"update_every": 0}}}, "update_every"),
        ({"memory": {"heads": 2, "engine": "quick"}}, "quick"),
    ]
    for config, sentence in refusals:
        with pytest.raises(ValueError, match=sentence):
            attach(model, MemoryConfig(**config))
    with pytest.raises(ValueError, match="at least one number of a layer"):
        MemoryConfig(layers=())
    with pytest.raises(ValueError, match="is a rank"):
        MemoryConfig(refine=-1)
    with pytest.raises(ValueError, match="with its head"):
        attach(model.model)
    assert _attributes(model) == before
    assert {name: w.requires_grad for name, w in model.named_parameters()} == weights
    shut(model)
    before = _attributes(model)
    with pytest.raises(ValueError, match="has memories already"):
        attach(model)
    assert _attributes(model) == before


def test_families_that_are_not_known_are_refused_and_the_cure_is_named() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match=r"'gpt2' cannot be given a memory yet; there are llama, qwen3.*FAMILIES"):
        attach(model)
    assert all(weight.requires_grad for weight in model.parameters())


def test_modules_are_still_what_they_were() -> None:
    plain = base()
    model = shut(base())
    assert isinstance(model, type(plain))
    assert isinstance(model.model, LlamaModel)
    assert isinstance(model.model.layers[0].self_attn, LlamaAttention)
    assert type(model).__name__ == type(plain).__name__ == "LlamaForCausalLM"
    assert type(model.model.layers[0].self_attn) is type(model.model.layers[1].self_attn)
    for way in ("eager", "sdpa", "eager"):
        model.set_attn_implementation(way)
        plain.set_attn_implementation(way)
        assert torch.equal(model(words(2, 7)).logits, plain(words(2, 7)).logits)
    ours, theirs = (m(words(2, 7), output_attentions=True, output_hidden_states=True) for m in (model, plain))
    assert len(ours.attentions) == len(theirs.attentions) == LAYERS
    assert len(ours.hidden_states) == len(theirs.hidden_states) == LAYERS + 1
    for one, two in zip((*ours.attentions, *ours.hidden_states), (*theirs.attentions, *theirs.hidden_states), strict=True):
        assert torch.equal(one, two)


def test_a_copy_has_memories_of_its_own() -> None:
    model, tokens = opened(values="embedding"), words(2, 9)
    out = model(tokens)
    expected = out.logits.detach()
    other = copy.deepcopy(model)
    assert not {id(module) for module in other.modules()} & {id(module) for module in model.modules()}
    assert torch.equal(other(tokens).logits, expected)
    with torch.no_grad():
        for weight in memory_parameters(model):
            weight.fill_(float("nan"))
    assert torch.equal(other(tokens).logits, expected)
    with disable_memory(model):
        assert torch.equal(other(tokens).logits, expected)
    detach(model)
    assert torch.equal(other(tokens).logits, expected)
    assert torch.equal(detach(other)(tokens).logits, model(tokens).logits)


def test_embeddings_may_be_given_instead_of_words() -> None:
    for config in ({}, {"values": "embedding"}):
        model, tokens = opened(**config), words(2, 9)
        embedded = model.get_input_embeddings()(tokens)
        assert torch.equal(model(inputs_embeds=embedded).logits, model(tokens).logits)
        for given in ({}, {"input_ids": tokens, "inputs_embeds": embedded}):
            with pytest.raises(ValueError, match="exactly one of"):
                model(**given)


def test_a_classifier_may_have_memories() -> None:
    torch.manual_seed(0)
    config, _ = FAMILIES["llama"]
    model = LlamaForSequenceClassification(config(**SIZES)).eval()
    tokens = words(2, 9)
    before = model(tokens).logits
    attach(model, MemoryConfig(memory=MEMORY))
    assert torch.equal(model(tokens).logits, before)
    open_gates(model)
    assert not torch.equal(model(tokens).logits, before)
    assert torch.equal(detach(model)(tokens).logits, before)


def test_masks_that_hide_what_is_padding_are_refused() -> None:
    model = opened()
    with pytest.raises(ValueError, match=r"attention_mask must be \[batch, time\]"):
        model(words(2, 5), attention_mask=torch.zeros(2, 1, 5, 5))
    assert torch.equal(model(words(2, 5), attention_mask=torch.ones(2, 5)).logits, model(words(2, 5)).logits)
