"""What the tokens of an unfinished step leave behind when attention is cut off."""

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from retain.retrofit import MemoryCache, MemoryConfig, attach, settle

EVERY = 8
MEMORY = {"rule": {"update_every": EVERY, "step_every": EVERY}, "heads": 2, "head_dim": 8, "gates": {"lr": 0.9}}


def model_with_memories(memory: dict[str, object] | None = None) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    base = LlamaForCausalLM(sizes).double().eval()
    config = MemoryConfig(strength=1.0) if memory is None else MemoryConfig(strength=1.0, memory=memory)
    return attach(base, config).double()


def read(model: PreTrainedModel, words: Tensor, cache: MemoryCache) -> Tensor:
    with torch.no_grad():
        return model(words, past_key_values=cache, use_cache=True).logits


@pytest.mark.parametrize("memory", [MEMORY, None], ids=["small", "default"])
def test_single_tokens_and_any_pieces_say_what_one_call_says(memory: dict[str, object] | None) -> None:
    model = model_with_memories(memory)
    words = torch.randint(32, (2, 150), generator=torch.Generator().manual_seed(1))
    whole = read(model, words, MemoryCache(model.config))
    for pieces in ([1] * 150, [63, 1, 1, 64, 21], [70, 1, 1, 1, 77]):
        cache = MemoryCache(model.config)
        torch.testing.assert_close(torch.cat([read(model, part, cache) for part in words.split(pieces, dim=1)], dim=1), whole)


def test_what_was_read_last_is_lost_at_a_cut_unless_it_is_settled() -> None:
    model = model_with_memories(MEMORY)
    words = torch.randint(32, (3, 13), generator=torch.Generator().manual_seed(1))
    changed = words.clone()
    changed[:, 10] = (words[:, 10] + 1) % 32  # in the second step, of which three tokens are missing
    question = torch.randint(32, (3, 2), generator=torch.Generator().manual_seed(2))
    lost, kept = [], []
    for text in (words, changed):
        cache = MemoryCache(model.config)
        read(model, text, cache)
        lost.append(read(model, question, cache.memories_only()))
        kept.append(read(model, question, settle(model, cache).memories_only()))
    assert torch.equal(lost[0], lost[1])
    assert float((kept[0] - kept[1]).abs().max()) > 1e-6


def test_rows_settle_each_at_its_own_place_and_the_old_cache_stays() -> None:
    model = model_with_memories(MEMORY)
    words = torch.randint(32, (2, 13), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 13, dtype=torch.long)
    mask[1, :3] = 0
    cache = MemoryCache(model.config)
    with torch.no_grad():
        model(words, attention_mask=mask, past_key_values=cache, use_cache=True)
    before = [state.hash() for state in cache.memories]
    after = settle(model, cache)
    assert [state.clock.tolist() for state in after.memories] == [[16, 16]] * 2
    assert [state.hash() for state in cache.memories] == before
    alone = MemoryCache(model.config)
    read(model, words[1:, 3:], alone)
    for state, own in zip(after.memories, settle(model, alone).memories, strict=True):
        for weight, value in own.accumulator.items():
            torch.testing.assert_close(state.accumulator[weight][1:], value)


def test_a_cache_that_was_not_used_is_refused() -> None:
    model = model_with_memories()
    with pytest.raises(ValueError, match="0 memories and the model 2"):
        settle(model, MemoryCache(model.config))
