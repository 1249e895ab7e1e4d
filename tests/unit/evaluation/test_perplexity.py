"""Perplexity by place: oracles prove the arithmetic, and real models that streams and controls do what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from retain.blocks import BlockState
from retain.evaluation import AbstractCut, MemoryReset, Perplexity, WindowCut, WritesOff, perplexity
from tests.tolerances import assert_near
from tests.unit.evaluation.oracle import Oracle, small, token, wrong
from tests.unit.models.test_generate import VOCABULARY, tokens

TEXT = torch.tensor([[seed, *(token(seed, place) for place in range(1, 17))] for seed in (2, 5)])


class AllReset(AbstractCut):
    """Nothing is left of what was read."""

    @property
    def name(self) -> str:
        return "all reset"

    def cut(self, state: BlockState, start: BlockState) -> BlockState:
        return WindowCut().cut(MemoryReset().cut(state, start), start)


def bits_of(logits: Tensor, text: Tensor) -> Tensor:
    """Bits of each token but the first, given what was said before it."""
    return -logits.log_softmax(-1)[:, :-1].gather(-1, text[:, 1:, None]).squeeze(-1) / math.log(2)


def test_an_oracle_costs_what_its_certainty_says() -> None:
    def half(seed: int, place: int, write: bool) -> int:
        return token(seed, place) if place <= 8 and write else 99

    sure = math.log(99)  # so that what is said has the probability 1/2 among 100 tokens, and each other one 1/198
    result = perplexity(Oracle(half, sure=sure), TEXT, bins=4, controls=(WritesOff(),), bytes_per_token=2.0)
    assert result.edges == (1, 5, 9, 13, 17)
    assert result.bits["model"] == pytest.approx((1, 1, math.log2(198), math.log2(198)))
    assert result.bits["writes off"] == pytest.approx([math.log2(198)] * 4)
    assert result.mean() == pytest.approx((1 + math.log2(198)) / 2)
    assert result.perplexity("writes off") == pytest.approx(198)
    assert f"| {(1 + math.log2(198)) / 4:.3f} |" in result.markdown(), "bits a byte"


def test_a_guess_among_all_tokens_costs_their_logarithm_in_bins_of_any_size() -> None:
    result = perplexity(Oracle(wrong, vocabulary=128, sure=0.0), TEXT, bins=(2, 3, 9), controls=(), chunk=3)
    assert result.bits == {"model": pytest.approx((7, 7))}
    assert result.title.endswith("(without controls)")
    assert result.edges == (2, 3, 9)


def test_places_before_and_behind_the_bins_do_not_count() -> None:
    def some(seed: int, place: int, write: bool) -> int:
        return token(seed, place) if 4 <= place < 9 else 99

    result = perplexity(Oracle(some, sure=50.0), TEXT, bins=(4, 6, 9), controls=())
    assert result.bits["model"] == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize("kind", ["mac", "mixed"])
def test_streams_cost_what_one_call_says(kind: str) -> None:
    speaker, text = small(kind), tokens(2, 25)
    with torch.no_grad():
        bits = bits_of(speaker(text).logits, text)
        silent = bits_of(speaker(text, write=False).logits, text)
        begun = [bits_of(speaker(text[:, start : start + 9]).logits, text[:, start : start + 9]).mean() for start in (0, 8, 16)]
    for chunk in (5, 1024):
        result = perplexity(speaker, text, bins=3, chunk=chunk, controls=(WritesOff(), AllReset()))
        assert result.edges == (1, 9, 17, 25)
        for reading, expected in (("model", bits), ("writes off", silent)):
            assert_near(torch.tensor(result.bits[reading]), expected.unflatten(1, (3, 8)).mean((0, 2)).float(), {torch.float32: 1e-5})
        assert_near(torch.tensor(result.bits["all reset"]), torch.stack(begun).float(), {torch.float32: 1e-5})
    assert abs(result.mean() - result.mean("all reset")) > 1e-4


def test_a_cut_is_made_again_at_each_bin() -> None:
    speaker, text = small("lmm"), tokens(1, 25)
    result = perplexity(speaker, text[0], bins=3, controls=(MemoryReset(), WindowCut()))
    for control in ("memory reset", "window cut"):
        same = [a == pytest.approx(b, abs=1e-9) for a, b in zip(result.bits[control], result.bits["model"], strict=True)]
        assert same == [True, False, False], control


def test_a_model_of_transformers_is_read_without_controls() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    llama, text = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)).double().eval(), tokens(1, 21)
    result = perplexity(llama, text, bins=2, controls=(), chunk=6)
    assert_near(torch.tensor(result.mean()), bits_of(llama(text).logits, text).mean().float().detach(), {torch.float32: 1e-5})


def test_a_result_survives_json_and_its_table_needs_controls() -> None:
    result = perplexity(small("mag"), tokens(1, 9), bins=2, title="Noise")
    again = Perplexity.from_json(result.to_json())
    assert again == result
    assert str(again).splitlines()[2] == "| reading | 1 to 5 | 5 to 9 | all | perplexity |"
    fields = {"edges": (1, 2), "rows": 1, "bytes_per_token": None, "about": {}}
    with pytest.raises(ValueError, match="'A book' has no controls"):
        str(Perplexity(title="A book", controls=(), bits={"model": (1.0,)}, **fields))
    with pytest.raises(ValueError, match="lacks the rows of 'writes off'"):
        str(Perplexity(title="A book", controls=("writes off",), bits={"model": (1.0,)}, **fields))
    with pytest.raises(ValueError, match="no reading 'quark'"):
        result.mean("quark")
    assert Perplexity(title="Lost", controls=(), bits={"model": (5000.0,)}, **fields).perplexity() == math.inf


def test_progress_goes_up_to_one() -> None:
    told: list[tuple[float, str]] = []
    perplexity(Oracle(wrong), TEXT, bins=2, controls=(WritesOff(),), chunk=4, progress=lambda share, note: told.append((share, note)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1] == (1.0, "writes off")
    assert told[0][1] == "model"


@pytest.mark.parametrize(
    ("bins", "others", "message"),
    [
        (0, {}, "bins >= 1"),
        (17, {}, "a token of each to foretell"),
        ((1,), {}, "bins must rise from 1"),
        ((0, 5), {}, "bins must rise from 1"),
        ((5, 5), {}, "bins must rise from 1"),
        ((1, 18), {}, "to 17 at most"),
        (2, {"chunk": 0}, "chunk >= 1"),
        (2, {"bytes_per_token": 0.0}, "bytes_per_token > 0"),
        (2, {"controls": (WritesOff(), WritesOff())}, "more than one 'writes off'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(bins: int | tuple[int, ...], others: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perplexity(Oracle(wrong), TEXT, bins, **others)
