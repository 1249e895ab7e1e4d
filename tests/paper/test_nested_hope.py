"""Nested Learning section 8.3, Hope: a language model of one block, held against the paper's equations written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.blocks import LMM, Block
from retain.layers import SelfModifyingMemory
from retain.models import RetainConfig, RetainForCausalLM
from tests.self_modifying_by_hand import DIM, EXACT, HEADS, LONG, WIDTH, Head
from tests.tolerances import assert_near

WORDS, PERIODS, RATES = 5, (3, 6), (0.2, 0.1)


def hope(structure: str = "Matrix", chunk: int = 2, layers: int = 1, **given: Any) -> RetainForCausalLM:
    """A model in float64 none of whose weights stands where it starts."""
    torch.manual_seed(0)
    memory = {
        "structure": structure,
        "heads": HEADS,
        "rule": {"chunk": chunk},
        "rates": {"eta": 0.4, "alpha": 0.9},
        "conv": 1,
        "output": {"norm": None, "gate": None, "project": False},
    }
    levels = [{"every": every, "options": {"lr": lr}} for every, lr in zip(PERIODS, RATES, strict=True)]
    sizes = {"vocab_size": WORDS, "hidden_size": DIM, "intermediate_size": 4, "num_hidden_layers": layers, "num_attention_heads": HEADS}
    config = RetainConfig(**{**sizes, "block": "hope", "persistent_tokens": 0, "levels": levels, "self_modifying": memory, **given})
    model = RetainForCausalLM(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return model


def words(rows: int = 1, time: int = LONG, seed: int = 0) -> Tensor:
    return torch.randint(WORDS, (rows, time), generator=torch.Generator().manual_seed(seed))


def _normed(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def by_hand(model: RetainForCausalLM, ids: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
    """The scores [time, words] of one row, and W_g, W_u and W_d of each level behind it.

    o_t is (94) with all memories written as (95) and (96) say, y_t the chain (97), each MLP of which takes a step along the gradients of the loss of its own
    period's tokens.
    """
    block = model.model.layers[0]
    assert isinstance(block, Block)
    assert isinstance(block.mixer, LMM)
    memory: Any = block.mixer.memory
    assert isinstance(memory, SelfModifyingMemory)
    x = model.model.embed_tokens.weight[ids].detach()
    seen = _normed(x, block.norm.weight)[None]
    o = torch.cat([Head.of(memory, seen.detach(), head).run().detach() for head in range(HEADS)], dim=-1)
    stream, labels = x + o, ids[1:]
    halves: list[Any] = list(block.continuum.blocks)
    own = [[part.weight.detach().clone() for part in (half.gate, half.up, half.down)] for half in halves]
    sums, scores = [[torch.zeros_like(w) for w in level] for level in own], []

    def say(t: int, levels: list[list[Tensor]]) -> Tensor:
        y = stream[t]
        for half, (gate, up, down) in zip(halves, levels, strict=True):
            z = _normed(y, half.norm.weight.detach())
            y = y + down @ (F.silu(gate @ z) * (up @ z))
        assert model.model.norm.weight is not None
        return model.lm_head.weight.detach() @ _normed(y, model.model.norm.weight.detach())

    for t in range(len(ids)):
        scores.append(say(t, own).detach())
        if t + 1 == len(ids):
            break  # what follows the last token is not known
        asked = [[w.clone().requires_grad_() for w in level] for level in own]
        loss = -torch.log_softmax(say(t, asked), -1)[labels[t]]
        found = iter(torch.autograd.grad(loss, [w for level in asked for w in level]))
        sums = [[total + next(found) for total in level] for level in sums]
        for i, (every, rate) in enumerate(zip(PERIODS, RATES, strict=True)):
            if (t + 1) % every == 0:
                own[i] = [w - rate * total for w, total in zip(own[i], sums[i], strict=True)]
                sums[i] = [torch.zeros_like(total) for total in sums[i]]
    return torch.stack(scores), own


@pytest.mark.equation("nested_learning", 94)
@pytest.mark.equation("nested_learning", 95)
@pytest.mark.equation("nested_learning", 96)
@pytest.mark.equation("nested_learning", 97)
@pytest.mark.parametrize("structure", ["Matrix", "ResidualMLP"])
def test_hope_is_a_memory_that_writes_itself_and_a_chain_of_levels(structure: str) -> None:
    model, ids = hope(structure), words()
    out = model(ids)
    scores, levels = by_hand(model, ids[0])
    assert_near(out.logits[0].detach(), scores, EXACT, "scores")
    kept = out.past_key_values.states[0].tensors
    for i, level in enumerate(levels):
        for name, weight in zip(("gate", "up", "down"), level, strict=True):
            assert_near(kept[f"levels/{i}/weights/{name}"][0].detach(), weight, EXACT, f"level {i}, {name}")


@pytest.mark.equation("nested_learning", 94)
@torch.no_grad()
def test_a_token_is_answered_before_it_is_written() -> None:
    """M_{memory,t-1}: the answer to the second of three tokens is that of a memory that has seen the first alone."""
    model, ids = hope(chunk=1), words(time=3)
    block: Any = model.model.layers[0]
    memory = block.mixer.memory
    seen = _normed(model.model.embed_tokens.weight[ids], block.norm.weight)
    _, state = memory(seen[:, :1])
    answer, _ = memory(seen)
    for head in range(HEADS):
        hand = Head.of(memory, seen, head)
        q = hand.unit("q", hand.q[1]) if hand.q is not None else None
        assert q is not None
        written = state.accumulator["memory_w"][0, head].t()
        assert_near(answer[0, 1, head * WIDTH : (head + 1) * WIDTH], written @ q, EXACT)


@pytest.mark.equation("nested_learning", 97)
def test_levels_that_never_learn_are_the_token_wise_half_of_a_transformer() -> None:
    model, ids = hope(levels=[{"every": 0}]), words(2)
    assert not model.model.levels_learn
    block: Any = model.model.layers[0]
    x = model.model.embed_tokens(ids)
    o, _ = block.mixer.memory(_normed(x, block.norm.weight))
    half, x = block.continuum.blocks[0], x + o
    z = _normed(x, half.norm.weight)
    y = x + (F.silu(z @ half.gate.weight.T) * (z @ half.up.weight.T)) @ half.down.weight.T
    assert model.model.norm.weight is not None
    assert_near(model(ids).logits, _normed(y, model.model.norm.weight) @ model.lm_head.weight.T, EXACT)
