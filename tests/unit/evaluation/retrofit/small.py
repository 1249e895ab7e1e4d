"""A small model with memories that do something, pages of few tokens, and answers worked out in plain loops."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from retain.retrofit import MemoryCache, MemoryConfig, attach, branches_of
from retain.tasks import AbstractPages, Page, Question

START, VOCABULARY = 20, 21


class Digits(AbstractPages):
    """Pages of two parts, the second of which is longer on odd seeds, and two questions with answers of two tokens and of one."""

    @property
    def vocab_size(self) -> int:
        return 20

    def page(self, seed: int) -> Page:
        dice = torch.Generator().manual_seed(seed)
        first, second, prompt, answer = (torch.randint(20, (n,), generator=dice) for n in (6, 3 + 2 * (seed % 2), 2, 2))
        questions = (Question(prompt, answer, {"distance": 9, "place": 0}), Question(prompt[:0], first[:1], {"distance": 7, "place": 1}))
        return Page((first, second), questions, {"length": 9 + 2 * (seed % 2)})


def small(positions: int = 64) -> PreTrainedModel:
    """A model in training, as one might hand it over, whose memories are wide open."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=positions
    )
    base = LlamaForCausalLM(config).double()
    for weight in base.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    model = attach(base, MemoryConfig(memory={"heads": 2}, strength=1.0)).double()
    for branch in branches_of(model):
        for weight in branch.memory.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return model.train()


def read(model: PreTrainedModel, page: Page) -> MemoryCache:
    """The memory of one page, alone: a fresh attention cache for each part."""
    memories = ()
    for part in page.parts:
        cache = MemoryCache(model.config, memories)
        model(input_ids=after(part), past_key_values=cache, use_cache=True)
        memories = cache.memories
    return MemoryCache(model.config, memories)


def scores(model: PreTrainedModel, question: Question, before: Tensor, cache: MemoryCache | None) -> Tensor:
    """What foretells each token of the answer [answer, vocabulary], of one question, alone."""
    tokens = after(torch.cat([before, question.prompt, question.answer]))
    logits = model(input_ids=tokens, past_key_values=cache, use_cache=cache is not None).logits[0]
    return logits[-len(question.answer) - 1 : -1]


def after(tokens: Tensor) -> Tensor:
    return torch.cat([torch.tensor([START]), tokens])[None]
