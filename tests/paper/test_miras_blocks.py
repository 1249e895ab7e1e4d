"""MIRAS sections 5.3 and 5.4: the block around Moneta, Yaad and Memora, and the map from a token to its rates, written out number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retain import NeuralMemory, presets
from retain.blocks import LMM, Block
from retain.layers import LowRankGates
from retain.models import RetainConfig, RetainForCausalLM
from tests.by_hand import Weights, deep
from tests.paper.test_miras_models import gradient_of
from tests.tolerances import assert_near

DIM, TIME, CHUNK, RANK = 4, 9, 4, 2


def _block() -> tuple[Block, NeuralMemory]:
    """A block around Yaad by channel, in float64, with kernels and gains that do not stand where they start."""
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, rule=presets.yaad(update_every=CHUNK, gates="channel"), gates=LowRankGates(rank=RANK, lr=0.3, forget=0.1))
    block = Block(LMM(memory), DIM, 6).double()
    with torch.no_grad():
        for name, weight in block.named_parameters():
            if any(part in name for part in ("norm", "conv", "gates", "initial")):
                weight.add_(0.3 * torch.randn_like(weight))
    return block, memory


def _normed(x: Tensor, gain: Tensor | None) -> Tensor:
    assert gain is not None
    return gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def _silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def _convolved(memory: NeuralMemory, x: Tensor) -> list[Tensor]:
    """silu(conv(x W)) for queries, keys and values: each channel its own kernel over four tokens."""
    kernel, out = memory.projections.conv, []
    assert kernel is not None
    for i, part in enumerate((memory.projections.to_q, memory.projections.to_k, memory.projections.to_v)):
        z, own = x @ part.weight.T, kernel.weight[:, i * DIM : (i + 1) * DIM]
        assert len(own) == 4
        out.append(_silu(torch.stack([torch.stack([own[j] * z[:, t - j] for j in range(min(4, t + 1))]).sum(0) for t in range(TIME)], dim=1)))
    return out


def _shares(memory: NeuralMemory, x: Tensor) -> dict[str, Tensor]:
    """sigmoid(U D x + b) for each vector of gates, and sigmoid(w x + b) for the rate that they share."""
    gates = memory.gates
    biases = dict(zip(("lr", "threshold", "channels", "retain"), gates.bias.split([1, DIM, DIM, DIM]), strict=True))
    maps = {name: narrow.up @ narrow.down for name, narrow in gates.narrow.items()} | {"lr": gates.weight}  # pyright: ignore[reportOperatorIssue]
    for name in ("threshold", "channels", "retain"):
        assert torch.linalg.matrix_rank(maps[name]) == RANK
    return {name: 1 / (1 + torch.exp(-(x @ maps[name].T + bias))) for name, bias in biases.items()}


def _yaad(memory: NeuralMemory, q: Tensor, k: Tensor, v: Tensor, shares: dict[str, Tensor]) -> Tensor:
    """The recurrence, every chunk's gradients at its start, the error of each channel clipped to its own threshold."""
    eta = memory.rule.structure.rate_bound(DIM) * shares["lr"] * 2 * shares["channels"]
    alpha, delta = 1 - shares["retain"], 2 * shares["threshold"]
    weights: Weights = {name: w.detach().expand(2, *w.shape) for name, w in memory.initial.items()}
    anchor, out = weights, []
    side = {"w0": lambda g: g[:, None, :, None], "w1": lambda g: g[:, None, None, :], "gain": lambda g: g[:, None, :]}
    for t in range(TIME):
        anchor = weights if t % CHUNK == 0 else anchor
        limit = delta[:, t, None]

        def huber(r: Tensor, limit: Tensor = limit) -> Tensor:
            return torch.where(r.abs() <= limit, r**2 / 2, limit * (r.abs() - limit / 2)).sum(-1)

        g = gradient_of(huber, k[:, t, None], v[:, t, None], anchor)
        weights = {name: side[name](alpha[:, t]) * w - side[name](eta[:, t]) * g[name] for name, w in weights.items()}
        out.append(deep(q[:, t, None], weights)[:, 0])
    return torch.stack(out, dim=1)


@torch.no_grad()
def _expected(block: Block, memory: NeuralMemory, x: Tensor) -> Tensor:
    seen = _normed(x, block.norm.weight)
    q, k, v = _convolved(memory, seen)
    q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    with torch.enable_grad():
        y = _yaad(memory, q, k, v, _shares(memory, seen)).detach()
    output = memory.output
    assert output.norm is not None
    assert output.to_gate is not None
    assert output.to_out is not None
    gained = None if output.norm.weight is None else output.norm.weight[0]
    x = x + (_normed(y, gained) * _silu(seen @ output.to_gate.weight.T)) @ output.to_out.weight.T
    half: Any = block.continuum.blocks[0]
    seen = _normed(x, half.norm.weight)
    return x + (_silu(seen @ half.gate.weight.T) * (seen @ half.up.weight.T)) @ half.down.weight.T


@pytest.mark.equation("miras", "section 5.4")
def test_a_block_is_llamas_with_a_memory_in_the_place_of_attention() -> None:
    """x' = x + W_o (norm(y) * silu(x W_g)) and x'' = x' + SwiGLU(norm(x')), with vectors of rates through maps d -> k -> d."""
    block, memory = _block()
    x = torch.randn(2, TIME, DIM, dtype=torch.float64)
    y, _, _ = block.eval()(x, None, torch.tensor([TIME, TIME]))
    assert_near(y, _expected(block, memory, x))


@pytest.mark.parametrize("preset", ["moneta", "yaad", "memora"])
def test_a_hybrid_is_layers_of_memory_and_windows_in_turn(preset: str) -> None:
    """Samba's order: a memory, then a window, the one reading what the other gives; in any split of the stream."""
    memory = {"preset": preset, "rule": {"gates": "channel", "update_every": CHUNK}, "gates": {"rank": RANK}}
    config = RetainConfig(
        vocab_size=7, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=1, block=["lmm", "sliding_window"], window=3, memory=memory
    )
    torch.manual_seed(0)
    model, tokens = RetainForCausalLM(config).double().eval(), torch.randint(7, (2, TIME))
    assert [type(layer.mixer).__name__ for layer in model.model.layers] == ["LMM", "AttentionOnly"]
    whole = model(tokens).logits
    first = model(tokens[:, :5], use_cache=True)
    second = model(tokens[:, 5:], past_key_values=first.past_key_values)
    assert_near(torch.cat([first.logits, second.logits], dim=1), whole)
