"""Tiny pretrained models with random weights, and memories that say something, for the tests of what is kept and seen of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from retain.retrofit import MemoryConfig, attach, branches_of

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
MEMORY: dict[str, Any] = {"preset": "titans", "rule": {"update_every": 4, "expansion": 1.5}, "heads": 2, "projections": {"conv": 3}}
FAMILIES = ("llama", "qwen3")


def base(family: str = "llama", seed: int = 0, **sizes: Any) -> PreTrainedModel:
    """A base model in float64."""
    torch.manual_seed(seed)
    if family == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes}))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**{**SIZES, "head_dim": 8, **sizes}))
    return model.double().eval()


def retrofitted(family: str = "llama", seed: int = 0, **choices: Any) -> PreTrainedModel:
    """A base with memories that are loud, quick to learn, and of weights that are nowhere zero."""
    given: dict[str, Any] = {"layers": (0, 2), "memory": MEMORY, "strength": 0.8, **choices}
    model = attach(base(family, seed), MemoryConfig(**given)).double()
    with torch.no_grad():
        for branch in branches_of(model):
            for weight in branch.parameters():
                weight.add_(torch.randn_like(weight) * 0.05)
    return model


def words(rows: int = 2, time: int = 13, seed: int = 1) -> Tensor:
    """Tokens."""
    return torch.randint(0, SIZES["vocab_size"], (rows, time), generator=torch.Generator().manual_seed(seed))
