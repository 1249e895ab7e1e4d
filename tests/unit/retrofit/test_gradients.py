"""What memories learn: gradients through writes, segments and checkpoints, in several precisions."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from retain.retrofit import MemoryCache, detach, memory_parameters
from tests.tolerances import assert_near

from .models import base, open_gates, opened, shut, words

FIRST, SECOND = words(2, 9, seed=5), words(2, 7, seed=6)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"layers": (0, 2)},
    "embedding": {"values": "embedding", "features": "centred", "memory": {"preset": "gated_delta_net", "heads": 2}},
}


def _cost(logits: Tensor, tokens: Tensor) -> Tensor:
    """What the model's own loss is, in full precision."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def _loss(model: Any, first: bool = False) -> Tensor:
    """What the second segment costs when attention has been cut off from the first, and the first, if asked for."""
    begun = model(FIRST, past_key_values=MemoryCache(model.config))
    cache = begun.past_key_values.memories_only()
    return _cost(model(SECOND, past_key_values=cache).logits, SECOND) + (_cost(begun.logits, FIRST) if first else 0.0)


def _gradients(model: Any, first: bool = False) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    _loss(model, first).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_across_a_cut_are_difference_quotients(kind: str) -> None:
    model, step, source = opened(**KINDS[kind]), 1e-5, torch.Generator().manual_seed(0)
    found = _gradients(model)
    assert found.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name, slope in found.items():
        weight, along = model.get_parameter(name), torch.randn(slope.shape, generator=source, dtype=torch.float64)
        with torch.no_grad():
            weight.add_(step * along)
            above = _loss(model)
            weight.sub_(2 * step * along)
            below = _loss(model)
            weight.add_(step * along)
        assert float((slope * along).sum()) == pytest.approx(float(above - below) / (2 * step), rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_segment_learns_from_what_the_second_costs(kind: str) -> None:
    model = opened(**KINDS[kind])
    through = _gradients(model)
    with torch.no_grad():
        cache = model(FIRST, past_key_values=MemoryCache(model.config)).past_key_values.detach().memories_only()
    model.zero_grad(set_to_none=True)
    _cost(model(SECOND, past_key_values=cache).logits, SECOND).backward()
    writing = ("to_k", "to_v", "gates.", "initial.")
    for name, slope in through.items():
        alone = model.get_parameter(name).grad
        if any(part in name for part in writing):
            assert alone is None or float((slope - alone).abs().max()) > 1e-9, name  # some of it came through the writes of the first


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_change_no_gradient(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        logging.getLogger("transformers.modeling_layers"), "disabled", True
    )  # it says that caches are dropped, which is what is tested
    model = opened(**KINDS[kind]).train()
    expected = _gradients(model, first=True)
    model.activation_checkpointing_enable()
    calls = []
    model.model.layers[1].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    found = _gradients(model, first=True)
    assert len(calls) == 4  # two segments, each run again
    assert found.keys() == expected.keys()
    for name, slope in expected.items():
        assert_near(found[name], slope, what=name)
    cache = MemoryCache(model.config)
    model(FIRST, past_key_values=cache)
    assert (cache.get_seq_length(), cache.rows) == (0, 2)  # the one is dropped, the other carried


def test_reentrant_checkpoints_are_refused_in_either_order() -> None:
    model = shut(base())
    for wrong in ({"use_reentrant": True}, {}):
        for where in (model, model.model):
            with pytest.raises(ValueError, match="wrong gradients"):
                where.activation_checkpointing_enable(wrong)
            assert not model.is_activation_checkpointing
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=2)
    assert model.is_activation_checkpointing
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing
    detach(model)
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ValueError, match="wrong gradients"):
        shut(model)
    assert all(weight.requires_grad for weight in model.parameters())
    model.activation_checkpointing_enable()
    shut(model)
    with pytest.raises(ValueError, match="wrong gradients"):
        model._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["autocast", "bfloat16 base", "bfloat16"])
def test_coarse_activations_leave_memories_in_float32_and_gradients_near(way: str, kind: str) -> None:
    config = KINDS[kind]
    exact = opened(dtype=torch.float32, **config)
    expected = _gradients(exact, first=True)
    if way == "bfloat16 base":
        model = shut(base(dtype=torch.bfloat16), **config)
        open_gates(model)
        assert {weight.dtype for weight in memory_parameters(model)} == {torch.float32}
    else:
        model = opened(dtype=torch.bfloat16 if way == "bfloat16" else torch.float32, **config)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        found = _gradients(model, first=True)
        cache = model(FIRST, use_cache=True).past_key_values
    for state in cache.memories:
        assert {w.dtype for part in (state.anchor, state.accumulator, *state.moments) for w in part.values()} == {torch.float32}
    mine, other = (torch.cat([slopes[name].float().flatten() for name in sorted(expected)]) for slopes in (found, expected))
    assert bool(torch.isfinite(mine).all())
    assert float(torch.cosine_similarity(mine, other, dim=0)) > 0.98
    with torch.no_grad():
        near, far = float(_loss(model)), float(_loss(exact))
    assert near == pytest.approx(far, rel=0.02)


def test_a_memory_that_starts_shut_learns_to_open_and_then_learns() -> None:
    model = shut(base(dtype=torch.float32), values="embedding").train()
    optimizer = torch.optim.AdamW(memory_parameters(model), lr=3e-2)
    tokens = words(4, 12).repeat(1, 2)  # what comes again can be told by a memory
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name


COMPILED = """
import torch
from tests.unit.retrofit.models import base, open_gates, shut, words

model, tokens = shut(base(dtype=torch.float32, num_hidden_layers=1)), words(2, 6)
open_gates(model)
with torch.no_grad():
    expected = model(tokens, use_cache=False).logits
    found = torch.compile(model, backend="aot_eager")(tokens, use_cache=False).logits
print(float((found - expected).abs().max()))
"""


@pytest.mark.slow
def test_a_compiled_model_says_the_same() -> None:
    # In a process of its own, where no checker of types runs, which the compiler would have to read; and where its warnings on broken graphs are none of ours.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) < 1e-5
