"""Adapters of PEFT and memories in one model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from retain.retrofit import MemoryCache, MemoryConfig, attach, branches_of, detach, disable_memory, memory_parameters
from tests.tolerances import assert_near

from .models import LAYERS, MEMORY, base, open_gates, opened, words

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it


def _adapted(model: Any) -> Any:
    torch.manual_seed(5)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False))


def _both(first: str) -> Any:
    """A model with memories and adapters, one given before the other."""
    if first == "memories":
        model = _adapted(opened())
    else:
        model = _adapted(base())
        torch.manual_seed(1)
        attach(model.get_base_model(), MemoryConfig(memory=MEMORY))
        open_gates(model)
        model.double()
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
    for weight in memory_parameters(model):
        weight.requires_grad_(True)
    return model.double().eval()


@pytest.mark.parametrize("first", ["memories", "adapters"])
def test_each_can_be_switched_off_without_the_other(first: str) -> None:
    tokens, model = words(2, 9), _both(first)
    both, only_memories, only_adapters = model(tokens).logits, opened()(tokens).logits, _adapted(base()).eval()(tokens).logits
    assert len(branches_of(model)) == LAYERS
    with model.disable_adapter():
        assert_near(model(tokens).logits, only_memories)
        with disable_memory(model):
            assert_near(model(tokens).logits, base()(tokens).logits)
    with disable_memory(model):
        assert_near(model(tokens).logits, only_adapters)
    assert float((both - only_memories).abs().max().detach()) > 0.1
    assert float((both - only_adapters).abs().max().detach()) > 0.1


@pytest.mark.parametrize("first", ["memories", "adapters"])
def test_both_learn_at_once_and_the_base_does_not(first: str) -> None:
    tokens, model = words(2, 9), _both(first)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    cache = model(tokens, use_cache=True).past_key_values.memories_only()
    model(tokens, labels=tokens, past_key_values=cache).loss.backward()
    optimizer.step()
    for name, weight in model.named_parameters():
        learns = "lora_" in name or ".memory." in name
        assert weight.requires_grad == learns, name
        assert torch.equal(weight, before[name]) != learns, name


@pytest.mark.parametrize("first", ["memories", "adapters"])
def test_adapters_are_merged_beside_memories_and_words_are_written_through_the_wrapper(first: str) -> None:
    prompt, model = words(1, 6), _both(first)
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    logits, spoken = model(prompt).logits, model.generate(input_ids=prompt, **settings)
    assert torch.equal(model.generate(input_ids=prompt, **settings, use_cache=False), spoken)
    with torch.no_grad():
        cache = model(words(1, 7, seed=1), use_cache=True).past_key_values
    assert isinstance(cache, MemoryCache)
    merged = model.merge_and_unload()
    assert_near(merged(prompt).logits, logits)
    assert torch.equal(merged.generate(prompt, **settings), spoken)
    detach(merged)
    adapted = _adapted(base()).eval()
    assert_near(merged(prompt).logits, adapted(prompt).logits)
    assert not any(".memory." in name for name in merged.state_dict())


def test_attach_and_detach_leave_adapters_to_learn_as_they_did() -> None:
    model = _adapted(base())
    learns = {name: weight.requires_grad for name, weight in model.named_parameters()}
    attach(model.get_base_model(), MemoryConfig(memory=MEMORY))
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if ".memory." not in name)
    detach(model.get_base_model())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == learns
