"""`retain retrofit eval`: tables, numbers and figures of a model with memories, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from retain.cli.main import app
from retain.evaluation import AfterCut, PageRecall, Preservation
from retain.evaluation.retrofit import READINGS
from retain.retrofit import MemoryConfig, attach, save

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small model of bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<s>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(tmp_path / "base")
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=1100
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def memories(base: Path, tmp_path: Path) -> Path:
    """A folder of memories that say something, as a training leaves it."""
    torch.manual_seed(0)
    save(attach(AutoModelForCausalLM.from_pretrained(base), MemoryConfig(memory={"heads": 2}, strength=1.0)), tmp_path / "model")
    return tmp_path / "model"


def test_pages_and_text_are_told_beside_their_controls(base: Path, memories: Path, tmp_path: Path) -> None:
    out = tmp_path / "told"
    words = ["--base", str(base), "--out", str(out), "--pages", "hash-hop-2,text", "--count", "2", "--by", "hops", "--preservation"]
    done = CliRunner().invoke(app, ["retrofit", "eval", str(memories), *words])
    assert done.exit_code == 0, done.output
    assert "| hops | questions | right | " + " | ".join(READINGS) in done.output
    assert "| place behind the cut | " + " | ".join(READINGS) in done.output
    found = PageRecall.from_json((out / "hash-hop-2.json").read_text())
    assert {(o.reading, o.seed) for o in found.outcomes} == {(name, seed) for name in READINGS for seed in (0, 1)}
    assert found.overall().characters.asked == found.overall().tokens.asked == 4 * 8
    text = AfterCut.from_json((out / "text.json").read_text())
    assert {one.tokens for one in text.stretches} == {512}
    assert not any(one.nats for one in text.stretches if one.reading == "base, full context"), "2,560 tokens do not fit 1,100 positions"
    for name in ("hash-hop-2", "text"):
        kept = Preservation.from_json((out / f"{name}.preservation.json").read_text())
        assert kept.markdown() in done.output
        assert (out / f"{name}.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pages", "quark"], "no pages called 'quark'; there are words-31, words-127"),
        (["--pages", "pairs-31"], "no word that is one token"),
        (["--pages", "hash-hop-1", "--count", "1"], "two pages at least"),
        (["--pages", "hash-hop-1", "--by", "quark", "--count", "2"], "have no fact 'quark'"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(words: list[str], message: str, base: Path, memories: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["retrofit", "eval", str(memories), "--base", str(base), "--out", str(tmp_path / "told"), *words])
    assert done.exit_code == 2
    assert message in done.output


def test_memories_that_are_not_there_are_missed_before_anything_is_loaded(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["retrofit", "eval", str(tmp_path / "none"), "--base", "nowhere", "--out", str(tmp_path / "told")])
    assert done.exit_code == 2
    assert "is not the folder of trained memories" in done.output
