"""Tokens and their pieces of the text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from retain.inspection import in_pieces
from tests.unit.inspection.pages import model_of

MODEL = model_of()


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_pieces_of_bytes_are_the_text(text: str) -> None:
    text = text.encode(errors="replace").decode()
    tokens, pieces = in_pieces(MODEL, Path("no/tokenizer/here"), text)
    assert bytes(tokens).decode() == text
    assert "".join(pieces) == text
    assert len(pieces) == len(tokens)


def test_a_letter_of_several_bytes_is_the_piece_of_the_last() -> None:
    assert in_pieces(MODEL, Path("no/tokenizer/here"), "aé€")[1] == ["a", "", "é", "", "", "€"]


def test_pieces_of_a_tokenizer_are_the_text(tmp_path: Path) -> None:
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()  # pyright: ignore
    plain.train_from_iterator(["the sea is the sea"], trainers.BpeTrainer(vocab_size=270, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    tokenizer.save_pretrained(tmp_path)
    text = "the sea — is blue\n"
    tokens, pieces = in_pieces(MODEL, tmp_path, text)
    assert tokens == tokenizer(text)["input_ids"]
    assert "".join(pieces) == text
    assert pieces[0] == "the"


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing in the text"):
        in_pieces(MODEL, Path("no/tokenizer/here"), "")
    with pytest.raises(ValueError, match="knows 32 tokens, not bytes"):
        in_pieces(model_of(vocab_size=32), Path("no/tokenizer/here"), "a")
