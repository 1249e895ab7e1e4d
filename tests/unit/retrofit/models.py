"""Tiny pretrained models, with and without memories, and how one is run by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from retain.core.state import MemoryState
from retain.retrofit import MemoryConfig, attach, branches_of
from retain.retrofit.branch import MemoryBranch

VOCABULARY, LAYERS, WIDTH = 40, 3, 16
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 8192,
    "initializer_range": 0.3,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MEMORY: dict[str, Any] = {"heads": 2, "rule": {"update_every": 4, "expansion": 1.5}}
FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}


def base(family: str = "llama", dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A base with random weights, large enough that its words differ."""
    torch.manual_seed(0)
    config, kind = FAMILIES[family]
    model = kind(config(**{**SIZES, **changes})).eval().to(dtype)
    if dtype == torch.float64:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__.endswith("RMSNorm"):
                    setattr(parent, name, ExactNorm(child.weight, SIZES["rms_norm_eps"]))
    return model


class ExactNorm(nn.Module):
    """The norm of these models, which else goes through float32 whatever it is given."""

    def __init__(self, weight: nn.Parameter, least: float) -> None:
        super().__init__()
        self.weight, self.least = weight, least

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.least)


def shut(model: PreTrainedModel, **config: Any) -> Any:
    """The model with memories as they begin."""
    torch.manual_seed(1)
    return attach(model, MemoryConfig(**{"memory": MEMORY, **config}))


def opened(family: str = "llama", dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A model whose memories learn fast and have a say, with everything in them away from where it begins."""
    model = shut(base(family, dtype), **config)
    open_gates(model)
    return model.to(dtype)


def open_gates(model: nn.Module) -> None:
    """Draw anew whatever begins at zero."""
    maker = torch.Generator().manual_seed(2)
    for branch in branches_of(model):
        with torch.no_grad():
            branch.strength.fill_(0.8)
            branch.to_gate.bias.fill_(1.0)
            branch.to_gate.weight.copy_(torch.randn(branch.to_gate.weight.shape, generator=maker) * 0.3)
            if branch.refine is not None:
                branch.refine.up.weight.copy_(torch.randn(branch.refine.up.weight.shape, generator=maker) * 0.3)
            if branch.features is not None:
                branch.features.mean.copy_(torch.randn(WIDTH, generator=maker) * 0.1)
                branch.features.spread.fill_(1.3)


def words(batch: int, time: int, seed: int = 0) -> Tensor:
    """Random words, none of which is special."""
    return torch.randint(3, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))


def plain_words(model: Any, prompt: Tensor, count: int, before: Sequence[MemoryState] | None = None) -> Tensor:
    """Greedy decoding by running everything anew for each word."""
    for _ in range(count):
        prompt = torch.cat([prompt, by_hand(model, prompt, before)[0][:, -1:].argmax(-1)], dim=1)
    return prompt


def by_hand(model: Any, tokens: Tensor, before: Sequence[MemoryState] | None = None) -> tuple[Tensor, list[MemoryState]]:
    """Logits and the memories' states, layer by layer as the equations have them: attention sees these tokens, memories all before them."""
    decoder = model.model
    stream = embedded = decoder.embed_tokens(tokens)
    time = tokens.shape[1]
    rotary = decoder.rotary_emb(stream, position_ids=torch.arange(time)[None])
    future = torch.full((time, time), float("-inf"), dtype=stream.dtype).triu(1)[None, None]
    states: list[MemoryState] = []
    said = None
    for layer in decoder.layers:
        x = layer.input_layernorm(stream)
        attention = layer.self_attn
        mixed = _attended(attention, x, rotary, future)
        if hasattr(attention, "memory"):
            said, state, gate = _said(attention.memory, x, said, embedded, None if before is None else before[len(states)])
            states.append(state)
            mixed = (1 - gate) * mixed + gate * said
        stream = stream + mixed
        stream = stream + layer.mlp(layer.post_attention_layernorm(stream))
    return model.lm_head(decoder.norm(stream)), states


def _attended(attention: Any, x: Tensor, rotary: tuple[Tensor, Tensor], future: Tensor) -> Tensor:
    """What attention alone says, written out."""

    def heads(y: Tensor, norm: str = "") -> Tensor:
        y = y.view(*x.shape[:2], -1, attention.head_dim)
        return (getattr(attention, norm)(y) if hasattr(attention, norm) else y).transpose(1, 2)

    q, k, v = heads(attention.q_proj(x), "q_norm"), heads(attention.k_proj(x), "k_norm"), heads(attention.v_proj(x))
    q, k = _turned(q, *rotary), _turned(k, *rotary)
    k, v = (y.repeat_interleave(q.shape[1] // y.shape[1], dim=1) for y in (k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) * attention.head_dim**-0.5 + future, dim=-1)
    return attention.o_proj((weights @ v).transpose(1, 2).reshape(*x.shape[:2], -1))


def _turned(y: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = y.chunk(2, dim=-1)
    return y * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]


def _said(
    branch: MemoryBranch, x: Tensor, previous: Tensor | None, embedded: Tensor, state: MemoryState | None
) -> tuple[Tensor, MemoryState, Tensor]:
    gate = torch.tanh(branch.strength) * torch.sigmoid(x @ branch.to_gate.weight.T + branch.to_gate.bias)
    if branch.features is not None:
        x = (x - branch.features.mean) / branch.features.spread
        x = torch.where(x.square().mean(-1, keepdim=True).sqrt() <= 3.0, x, 0.0)
    asked = x if branch.refine is None or previous is None else x + previous @ branch.refine.down.weight.T @ branch.refine.up.weight.T
    values = x if branch.values == "hidden" else F.normalize(embedded, dim=-1) * branch.memory.heads**0.5
    said, after = branch.memory(asked, state, store=(x, values))
    return said, after, gate
