"""Ad-hoc level stacking on small Llama and Qwen3 models that know nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from retain.layers import Level
from retain.models import StackedLM
from tests.tolerances import VALUES, assert_near

SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
FAMILIES = pytest.mark.parametrize("family", ["llama", "qwen3"])
WORDS = torch.randint(23, (2, 17), generator=torch.Generator().manual_seed(0))


def _base(family: str = "llama", **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, **settings)).eval()
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=4, **settings)).eval()


def _bare(every: int, lr: float = 0.1) -> Level:
    return Level(every=every, options={"lr": lr}, around="nothing")


def _added(every: int, lr: float = 0.1) -> Level:
    return Level(every=every, options={"lr": lr})


def _read(stacked: StackedLM, words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores of a stretch of words that begins a context, and the state that has learnt from those it predicts."""
    weights = stacked.weights(state)
    logits = stacked(words[:, :-1], state=state).logits
    loss = F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten(), reduction="sum")
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return logits, stacked.learn(state, dict(zip(weights, gradients, strict=True)), torch.full((len(words),), words.shape[1] - 1))


CHAINS = pytest.mark.parametrize(
    "levels",
    [
        (_bare(4),),
        (_bare(0), _added(4)),
        (_added(2), _added(4), _bare(8)),
        ((_bare(4),), (_bare(8), _added(2)), (_bare(0),)),
    ],
    ids=["one", "pretrained first", "fastest first", "by layer"],
)


@FAMILIES
@CHAINS
@pytest.mark.equation("nested_learning", "ad-hoc level stacking")
def test_a_stacked_model_begins_as_the_pretrained_one(family: str, levels: Any) -> None:
    """To the last bit with the slow weights; with a state, whose products are batched by row, to rounding."""
    before = _base(family)(WORDS).logits
    stacked = StackedLM(_base(family), levels)
    assert torch.equal(stacked(WORDS).logits, before)
    assert_near(stacked(WORDS, state=stacked.start(2)).logits, before, {torch.float32: 1e-6})


@CHAINS
@pytest.mark.equation("nested_learning", "ad-hoc level stacking")
def test_at_rate_zero_a_stacked_model_stays_the_pretrained_one(levels: Any) -> None:
    before = _base()(WORDS).logits
    one = isinstance(levels[0], Level)
    silent = [[Level(every=level.every, options={"lr": 0.0}, around=level.around) for level in own] for own in ([levels] * 3 if one else levels)]
    stacked = StackedLM(_base(), silent)
    state = stacked.start(2)
    for first in range(0, 16, 2):
        _, state = _read(stacked, WORDS[:, first : first + 3], state)
    assert_near(stacked(WORDS, state=state).logits, before, {torch.float32: 1e-6})


@FAMILIES
@pytest.mark.equation("nested_learning", "ad-hoc level stacking")
def test_after_one_chunk_only_the_level_that_is_due_has_changed(family: str) -> None:
    stacked = StackedLM(_base(family).double(), (_added(4), _bare(8)))
    start = stacked.start(2)
    _, state = _read(stacked, WORDS[:, :5], start)
    changed = {path for path in stacked.weights(state) if not torch.equal(state[path], start[path])}
    assert changed == {f"{layer}/0/weights/down" for layer in range(3)}  # behind a zero output the two others have no gradient yet
    _, state = _read(stacked, WORDS[:, 4:9], state)
    assert {path for path in stacked.weights(state) if not torch.equal(state[path], start[path])} == set(stacked.weights(start))
    assert not torch.allclose(stacked(WORDS, state=state).logits, stacked(WORDS).logits, atol=1e-4)
    assert torch.equal(stacked(WORDS).logits, _base(family).double()(WORDS).logits)


@pytest.mark.equation("nested_learning", "ad-hoc level stacking")
def test_each_layer_may_have_a_frequency_of_its_own() -> None:
    stacked = StackedLM(_base(), [[_bare(4)], [_bare(8)], [_bare(0)]])
    start = stacked.start(1)
    assert [path.split("/")[0] for path in stacked.weights(start)] == ["0"] * 3 + ["1"] * 3
    _, state = _read(stacked, WORDS[:1, :5], start)
    assert {path[0] for path in stacked.weights(state) if not torch.equal(state[path], start[path])} == {"0"}
    assert stacked.room(state).tolist() == [4]
    _, state = _read(stacked, WORDS[:1, 4:9], state)
    assert {path[0] for path in stacked.weights(state) if not torch.equal(state[path], start[path])} == {"0", "1"}


@pytest.mark.equation("nested_learning", "ad-hoc level stacking")
def test_a_chunk_of_pretrained_mlps_is_sgd_on_the_pretrained_model() -> None:
    """One row, plain descent at every layer: the same as ``torch.optim.SGD`` on the MLPs of the base model."""
    base, stacked = _base().double(), StackedLM(_base().double(), (_bare(4),))
    sgd = torch.optim.SGD([w for name, w in base.named_parameters() if ".mlp." in name], lr=0.1)
    state = stacked.start(1)
    for first in range(0, 16, 4):
        words = WORDS[:1, first : first + 5]
        sgd.zero_grad()
        right = base(words[:, :-1]).logits
        F.cross_entropy(right.flatten(0, 1), words[:, 1:].flatten(), reduction="sum").backward()
        sgd.step()
        logits, state = _read(stacked, words, state)
        assert_near(logits, right, VALUES)


def test_rows_of_a_stacked_model_learn_for_themselves() -> None:
    stacked = StackedLM(_base().double(), (_bare(4), _added(2)))
    _, state = _read(stacked, WORDS[:, :3], stacked.start(2))
    logits, _ = _read(stacked, WORDS[:, 2:5], state)
    for row in range(2):
        _, own = _read(stacked, WORDS[row : row + 1, :3], stacked.start(1))
        assert_near(logits[row : row + 1], _read(stacked, WORDS[row : row + 1, 2:5], own)[0])


def test_the_weights_stay_those_of_the_model_and_nothing_is_left_behind() -> None:
    base = _base()
    weights = {id(w) for w in base.parameters()}
    stacked = StackedLM(base, (_bare(4), _added(2)))
    assert weights < {id(w) for w in stacked.parameters()}
    stacked(WORDS, state=stacked.start(2))
    with pytest.raises(ValueError, match="the state has 1 rows and the input 2"):
        stacked(WORDS, state=stacked.start(1))
    assert all(not memory._forward_pre_hooks for memory in stacked.memories)


@pytest.mark.parametrize(
    ("settings", "levels", "form", "cure"),
    [
        ({}, (_added(4),), "sequential", "one level of a layer takes its pretrained MLP.* got 0 of them"),
        ({}, (_bare(4), _bare(8)), "sequential", "got 2 of them"),
        ({}, (_bare(4),), "independent", "must be 'sequential' or 'nested', got 'independent'"),
        ({}, [[_bare(4)], [_bare(4)]], "sequential", "as many lists as layers, 3; got 0 levels and 2 lists"),
        ({"mlp_bias": True}, (_bare(4),), "sequential", "without biases, with SiLU.* got LlamaMLP"),
        ({"hidden_act": "gelu"}, (_bare(4),), "sequential", "with the activation GELU"),
        ({}, [[_bare(4)], [_bare(4), _added(6)], [_bare(4)]], "sequential", "4 does not divide 6"),
    ],
)
def test_what_cannot_be_stacked_is_refused_and_left_as_it_is(settings: dict[str, Any], levels: Any, form: Any, cure: str) -> None:
    base = _base(**settings)
    with pytest.raises(ValueError, match=cure):
        StackedLM(base, levels, form=form)
    assert {type(layer.mlp).__name__ for layer in base.get_decoder().layers} == {"LlamaMLP"}


def test_a_model_of_another_make_is_refused() -> None:
    sizes: dict[str, Any] = {"vocab_size": 23, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}
    with pytest.raises(ValueError, match=r"needs a decoder of layers with an mlp each.* got GPT2LMHeadModel"):
        StackedLM(GPT2LMHeadModel(GPT2Config(**sizes)), (_bare(4),))


def test_activations_are_not_computed_anew_without_their_state() -> None:
    base = _base().train()
    base.activation_checkpointing_enable()
    stacked = StackedLM(base, (_bare(4),))
    with pytest.raises(ValueError, match="activation_checkpointing_disable"):
        stacked(WORDS, state=stacked.start(2))
