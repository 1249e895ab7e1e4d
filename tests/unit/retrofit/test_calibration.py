"""Calibration: exact means and spreads, sinks and padding left out; and a start from which a recalled token is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.retrofit import MemoryConfig, attach, branches_of, calibrate, start_recalling
from tests.unit.retrofit.bases import FAMILIES, base, words

PLAIN: dict[str, Any] = {
    "preset": "delta_net",
    "heads": 2,
    "projections": {"start": "recall", "activation": None, "conv": 4},
    "output": {"norm": None, "gate": None},
}


def _seen(model: Any, tokens: Tensor, layer: int, normed: bool) -> Tensor:
    """The stream before a layer, or its normalised features, by the base model's own means."""
    stream = model.model(tokens, output_hidden_states=True, use_cache=False).hidden_states[layer]
    return model.model.layers[layer].input_layernorm(stream) if normed else stream


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_and_spread_are_those_of_the_tokens(family: str) -> None:
    model, tokens = base(family), words(4, 9)
    with torch.no_grad():
        x = _seen(model, tokens, 1, normed=True).flatten(0, 1)
    attach(model, MemoryConfig(layers=(1,), memory={"heads": 2}, features="centred")).double()
    calibrate(model, tokens.split(2))
    features = branches_of(model)[0].features
    assert features is not None
    torch.testing.assert_close(features.mean, x.mean(0))
    torch.testing.assert_close(features.spread, (x - x.mean(0)).square().mean().sqrt())
    assert features.sink.eq(0).all()
    torch.testing.assert_close(features(x).square().mean(), torch.ones((), dtype=torch.double))


def test_padding_and_the_way_of_batching_do_not_matter() -> None:
    tokens, models = words(3, 8), [attach(base(), MemoryConfig(memory={"heads": 2}, features="centred")).double() for _ in range(3)]
    mask = torch.ones(3, 12, dtype=torch.long)
    mask[:, :4] = 0
    calibrate(models[0], [tokens])
    calibrate(models[1], [tokens[:2], torch.zeros(1, 0, dtype=torch.long), {"input_ids": tokens[2:]}])
    calibrate(models[2], [{"input_ids": F.pad(tokens, (4, 0)), "attention_mask": mask}])
    first, *others = [[t for branch in branches_of(model) for t in branch.buffers()] for model in models]
    for other in others:
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one, two)


def test_sinks_are_left_out_and_known_again() -> None:
    """One word whose embedding is a hundred times as large as the others', in a direction of its own."""
    model, tokens = base(), words(4, 9) % 39
    tokens[:, 0] = 39
    with torch.no_grad():
        model.get_input_embeddings().weight[39] *= 100 * torch.randn(16, generator=torch.Generator().manual_seed(3)).abs()
        x = _seen(model, tokens, 0, normed=True)
    attach(model, MemoryConfig(layers=(0,), memory={"heads": 2}, features="centred")).double()
    features = branches_of(calibrate(model, [tokens]))[0].features
    assert features is not None
    rest = x[:, 1:].flatten(0, 1)
    torch.testing.assert_close(features.mean, rest.mean(0))
    torch.testing.assert_close(features.spread, (rest - rest.mean(0)).square().mean().sqrt())
    torch.testing.assert_close(features.sink, F.normalize(x[0, 0] - rest.mean(0), dim=0))
    out = features(x)
    assert out[:, 0].eq(0).all()
    torch.testing.assert_close(out[:, 1:], (x[:, 1:] - features.mean) / features.spread)


def test_what_cannot_be_measured_is_refused_and_nothing_changed() -> None:
    model = attach(base(), MemoryConfig(memory={"heads": 2}, features="centred")).double()
    before = [t.clone() for branch in branches_of(model) for t in branch.buffers()]
    for batches, why in (([], "hold no token"), ([torch.zeros(1, 1, dtype=torch.long)], "do not differ"), ([{"ids": 1}], "with ids")):
        with pytest.raises(ValueError, match=why):
            calibrate(model, batches)
    assert all(torch.equal(a, b) for a, b in zip(before, (t for branch in branches_of(model) for t in branch.buffers()), strict=True))
    with pytest.raises(ValueError, match="features='centred'"):
        calibrate(attach(base(), MemoryConfig(memory={"heads": 2})), [words()])
    with pytest.raises(ValueError, match="the model has no memories"):
        start_recalling(base(), [words()])
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("heads", [1, 2])
def test_a_recalled_token_is_answered_by_its_embedding_at_the_loudness_of_the_stream(heads: int) -> None:
    model, tokens = base(), words(4, 9)
    with torch.no_grad():
        loudness = _seen(model, tokens, 1, normed=False).square().mean().sqrt()
    attach(model, MemoryConfig(layers=(1,), memory={**PLAIN, "heads": heads}, values="embedding")).double()
    memory = branches_of(start_recalling(model, tokens.split(1), scale=2.5))[0].memory
    e = model.get_input_embeddings().weight
    held = memory.projections.to_v(F.normalize(e, dim=-1) * heads**0.5)
    torch.testing.assert_close(held.norm(dim=-1), torch.full((40,), heads**0.5, dtype=torch.double))
    said = memory.output(held.unflatten(-1, (heads, -1)), e)
    torch.testing.assert_close(said, 2.5 * loudness * e / e.square().mean(-1, keepdim=True).sqrt())


def test_heads_that_are_narrower_than_the_model_say_what_fits_through() -> None:
    model = attach(base(), MemoryConfig(layers=(1,), memory={**PLAIN, "head_dim": 3}, values="embedding")).double()
    memory = branches_of(start_recalling(model, [words()], scale=1.0))[0].memory
    to_v, to_out = memory.projections.to_v.weight, memory.output.to_out.weight  # pyright: ignore[reportOptionalMemberAccess]
    torch.testing.assert_close(to_v @ to_v.T, torch.eye(6, dtype=torch.double))
    through = to_out @ to_v
    torch.testing.assert_close(through @ through, through * through.trace() / 6)


def test_lags_give_keys_the_kernel_of_queries_one_token_later() -> None:
    model = attach(base(), MemoryConfig(layers=(1,), memory=PLAIN, values="embedding")).double()
    memory = branches_of(start_recalling(model, [words()], lags=(1.0, 0.5, 0.0)))[0].memory
    assert memory.projections.conv is not None
    q, k, v = memory.projections.conv.weight.split(16, dim=1)
    assert torch.equal(q[:3], k[1:])
    assert q[3].eq(0).all()
    assert k[0].eq(0).all()
    assert q[2].eq(0).all()
    assert q[0].std() > q[1].std() > 0
    assert torch.equal(v, torch.tensor([[1.0], [0.0], [0.0], [0.0]], dtype=torch.double).expand(4, 16))
    x = torch.randn(1, 7, 16, dtype=torch.double)
    asked, keys, _, _ = memory.projections((x, x, x), None, torch.tensor([7]))
    torch.testing.assert_close(asked[:, :-1], keys[:, 1:, :, 0])


@pytest.mark.parametrize(
    "change",
    [
        {"values": "hidden"},
        {"memory": {**PLAIN, "output": {"gate": None}}},
        {"memory": {**PLAIN, "output": {"norm": None}}},
        {"memory": {**PLAIN, "projections": {"start": "recall"}}},
        {"memory": {**PLAIN, "projections": {"activation": None}}},
        {"memory": {**PLAIN, "projections": {"start": "recall", "activation": None, "conv": 3}}},
    ],
)
def test_what_cannot_start_recalling_is_refused_and_nothing_changed(change: dict[str, Any]) -> None:
    model = attach(base(), MemoryConfig(**{"memory": PLAIN, "values": "embedding", **change}))
    before = [weight.clone() for branch in branches_of(model) for weight in branch.parameters()]
    with pytest.raises(ValueError, match=r"Cure: MemoryConfig\(values='embedding'|Cure: Projections\(conv=4\)"):
        start_recalling(model, [words()], lags=(1, 1, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, (w for branch in branches_of(model) for w in branch.parameters()), strict=True))
