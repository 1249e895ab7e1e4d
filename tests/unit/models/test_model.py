"""Models among transformers' models: saved and loaded, trained, checkpointed, compiled."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from retain.layers import Gates, LowRankGates
from retain.layers.described import memory_from, presets_by_name
from retain.memory import bias, learner, presets, retention, structure
from retain.models import RetainForCausalLM
from tests.tolerances import GRADIENTS, assert_near
from tests.unit.models.test_generate import config, every_kind, model, tokens


@every_kind
def test_a_saved_model_comes_back_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    speaker, x = model(kind).float(), tokens(2, 11)
    speaker.save_pretrained(tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(back, RetainForCausalLM)
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == back.config.to_dict()
    assert back.state_dict().keys() == speaker.state_dict().keys()
    assert all(torch.equal(weight, speaker.state_dict()[name]) for name, weight in back.state_dict().items())
    assert_near(back.eval()(x).logits, speaker(x).logits)


def test_a_folder_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    speaker = model("mag")
    speaker.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    for kind in (RetainForCausalLM, AutoModelForCausalLM):
        with pytest.raises(ValueError, match=r"lacks weights of this model, such as model\.norm\.weight.*Cure"):
            kind.from_pretrained(tmp_path)


def test_tied_embeddings_are_one_weight(tmp_path: Path) -> None:
    speaker = model("mag", tie_word_embeddings=True).float()
    assert speaker.lm_head.weight is speaker.model.embed_tokens.weight
    speaker.save_pretrained(tmp_path)
    back = RetainForCausalLM.from_pretrained(tmp_path)
    assert back.lm_head.weight is back.model.embed_tokens.weight
    assert_near(back.eval()(tokens(1, 5)).logits, speaker(tokens(1, 5)).logits)


@every_kind
def test_the_loss_is_the_cross_entropy_of_the_next_token(kind: str) -> None:
    speaker, x = model(kind), tokens(2, 11)
    labels = x.clone()
    labels[:, :4] = -100
    out = speaker(x, labels=labels)
    picked = out.logits[:, 3:-1].log_softmax(-1).gather(-1, x[:, 4:, None])
    assert out.loss is not None
    assert_near(out.loss, -picked.mean().float().double() if out.loss.dtype == torch.float64 else -picked.mean().float(), {torch.float32: 1e-5})


@every_kind
def test_every_weight_is_trained_and_checkpointing_changes_no_gradient(kind: str) -> None:
    plain, thrifty = model(kind).train(), model(kind).train()
    thrifty.activation_checkpointing_enable()
    assert thrifty.model.gradient_checkpointing
    if plain.model.levels_learn:
        with pytest.raises(ValueError, match="activations are kept"):
            thrifty(tokens(2, 11))
        thrifty = plain
    for speaker in (plain, thrifty):
        loss = speaker(tokens(2, 11), labels=tokens(2, 11), use_cache=False).loss
        assert loss is not None
        loss.backward()
    for (name, weight), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert weight.grad is not None, name
        assert other.grad is not None, name
        assert_near(other.grad, weight.grad, GRADIENTS, name)


def test_reentrant_checkpointing_is_refused() -> None:
    with pytest.raises(ValueError, match="use_reentrant=True gives wrong gradients"):
        model("mac").activation_checkpointing_enable({"use_reentrant": True})


def test_the_write_cost_is_added_to_the_loss_in_training_only() -> None:
    speaker, x = model("mag", write_cost=0.5).train(), tokens(2, 11)
    dear, free = speaker(x, labels=x), model("mag").train()(x, labels=x)
    assert dear.write_cost is not None
    assert dear.loss is not None
    assert_near(dear.loss - 0.5 * dear.write_cost, free.loss.to(dear.loss.dtype), {torch.float64: 1e-6, torch.float32: 1e-6})
    assert 0 < float(dear.write_cost.detach()) < 2
    assert speaker.eval()(x, labels=x).write_cost is None


def test_logits_are_kept_where_they_are_asked_for() -> None:
    speaker, x = model("mac"), tokens(2, 11)
    whole = speaker(x).logits
    assert_near(speaker(x, logits_to_keep=2).logits, whole[:, -2:])
    assert_near(speaker(x, logits_to_keep=torch.tensor([0, 5])).logits, whole[:, [0, 5]])
    embedded = speaker(inputs_embeds=speaker.get_input_embeddings()(x)).logits
    assert torch.equal(embedded, whole)


def test_a_compiled_model_says_the_same() -> None:
    code = """
import torch
from tests.unit.models.test_generate import model, tokens
for kind in ("mag", "mac"):
    speaker = model(kind)
    compiled = torch.compile(speaker)
    for length in (6, 9):
        error = compiled(tokens(2, length)).logits - speaker(tokens(2, length)).logits
        assert float(error.detach().abs().max()) < 1e-12, (kind, length)
"""  # without the checks of types that tests run under, which no compiler gets through
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_model_in_bfloat16_stays_close_and_keeps_its_memory_in_float32() -> None:
    speaker, x = model("mag").float(), tokens(2, 11)
    exact = speaker(x).logits
    coarse = speaker.bfloat16()(x)
    assert float((coarse.logits.float() - exact).detach().abs().max()) < 0.2
    assert coarse.past_key_values is not None
    memory = coarse.past_key_values.states[0].memories["memory"]
    assert all(w.dtype == torch.float32 for w in memory.accumulator.values())


def test_the_four_choices_of_a_memory_can_be_changed_one_by_one() -> None:
    change = {"structure": {"name": "NormResidual", "inner": {"name": "MLP", "depth": 3}}, "retention": "Keep", "learner": "Gradient", "bias": "Dot"}
    rule = memory_from({"change": change}, 8).rule
    inner = structure.MLP(depth=3)
    expected = replace(
        presets.titans(), structure=structure.NormResidual(inner=inner), retention=retention.Keep(), learner=learner.Gradient(), bias=bias.Dot()
    )
    assert rule == expected


def test_a_write_margin_makes_gates_pay_until_they_are_shut_by_that_much() -> None:
    memory = {"gates": {"curve": "hard", "lr": 0.5, "forget": 0.005}}
    costs = []
    for margin in (0.0, 1.2, 6.0):
        cost = model("mag", write_cost=1.0, write_margin=margin, memory=memory).train()(tokens(2, 11)).write_cost
        costs.append(float(cost.detach()))
    assert costs[0] < costs[1] - 0.3
    assert costs[2] == pytest.approx(2.0)


def test_a_memory_is_described_by_plain_data() -> None:
    memory = memory_from(
        {"preset": "titans", "rule": {"depth": 1}, "heads": 2, "head_dim": 6, "projections": {"conv": 2}, "output": {"gate": "head"}}, 8
    )
    assert (memory.heads, memory.head_dim, memory.projections.projections.conv) == (2, 6, 2)
    assert {"titans", "delta_net", "ttt_mlp"} <= presets_by_name().keys()


def test_gates_with_a_rank_are_of_low_rank() -> None:
    narrow = memory_from({"preset": "yaad", "rule": {"gates": "channel"}, "gates": {"rank": 4, "lr": 0.1}}, 8)
    assert narrow.gates.gates == LowRankGates(rank=4, lr=0.1)
    assert memory_from({"gates": {"lr": 0.1}}, 8).gates.gates == Gates(lr=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": {"gates": {"rnk": 1}}}, r"memory\['gates'\] has no 'rnk'; it has curve, .*, rank"),
        ({"memory": {"quarks": 1}}, "memory has no 'quarks'"),
        ({"memory": {"preset": "quark"}}, "no preset 'quark'"),
        ({"memory": {"rule": {"quarks": 1}}}, "preset 'titans' has no 'quarks'"),
        ({"memory": {"gates": {"quarks": 1}}}, r"memory\['gates'\] has no 'quarks'"),
        ({"memory": {"change": {"quarks": 1}}}, r"memory\['change'\] has no 'quarks'"),
        ({"memory": {"change": {"learner": "Quark"}}}, "no learner 'Quark'; choose one of Clamp, Gradient"),
        ({"memory": {"change": {"structure": {"name": "MLP", "quarks": 1}}}}, "structure MLP has no 'quarks'"),
        ({"block": "quark"}, "no block 'quark'"),
        ({"attention_start": "quark"}, "attention_start must be"),
        ({"attention_start": "self", "attention": "nested", "persistent_tokens": 0, "block": "mag"}, "attention_start must be"),
        ({"block": ["mag"]}, "names 1 blocks"),
        ({"gating": "quark"}, "gating must be"),
        ({"attention": "quark"}, "attention must be"),
        ({"attention": "nested"}, "persistent_tokens=0"),
        ({"num_attention_heads": 3}, "must divide hidden_size"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetainForCausalLM(config("mag", **given))


def test_labels_and_inputs_must_fit() -> None:
    speaker, x = model("mag"), tokens(2, 5)
    with pytest.raises(ValueError, match="exactly one"):
        speaker()
    with pytest.raises(ValueError, match="logits_to_keep=0"):
        speaker(x, labels=x, logits_to_keep=1)
