"""Codecs: bytes, byte pairs, and the tokenizer of a model, all under one law."""

import sys
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from retain.tasks import BytePairs, Bytes, Codec, Hosted
from retain.tasks.codec import ask, read
from tests.unit.tasks.asking import PAIRS, PROSE

ODD = ["", " ", "\n\n", "naïve – “quoted” 東京", "a = 'b'\n\tc", PROSE]


class Host:
    """A tokenizer with the manners of those of Hugging Face: unless told otherwise it adds and drops things."""

    def __init__(self) -> None:
        self.inner = Tokenizer.from_str(PAIRS.json)

    def __len__(self) -> int:
        return self.inner.get_vocab_size()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [0] * add_special_tokens + self.inner.encode(text).ids

    def decode(self, tokens: list[int], skip_special_tokens: bool = True, clean_up_tokenization_spaces: bool = True) -> str:
        text = self.inner.decode(tokens, skip_special_tokens=False)
        return text.strip() if skip_special_tokens or clean_up_tokenization_spaces else text


CODECS: list[Codec] = [Bytes(), PAIRS, Hosted(Host())]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("text", ODD)
def test_text_comes_back(codec: Codec, text: str) -> None:
    tokens = codec.encode(text)
    assert codec.decode(tokens) == text
    assert all(0 <= token < codec.vocab_size for token in tokens)


def test_byte_pairs_are_fewer_than_bytes() -> None:
    assert len(PAIRS.encode(PROSE)) < 0.8 * len(PROSE)
    assert PAIRS.vocab_size == 330


def test_byte_pairs_are_their_text() -> None:
    again = BytePairs(PAIRS.json)
    assert again == PAIRS
    assert again.encode(PROSE) == PAIRS.encode(PROSE)
    assert BytePairs.train([PROSE * 3, "The pass key for bakoti is 48213.\nMary moved to the kitchen.\n" * 20], vocab_size=330) == PAIRS


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize(("prompt", "answer"), [("The pass key is ", "48213"), ("a = '", "bcd"), ("it is in the ", "kitchen"), ("", "x"), ("x", "")])
def test_prompt_and_answer_are_the_tokens_of_both_together(codec: Codec, prompt: str, answer: str) -> None:
    head, tail = ask(codec, prompt, answer)
    assert head + tail == codec.encode(prompt + answer)
    assert prompt.startswith(codec.decode(head))
    assert codec.decode(tail).endswith(answer)
    assert codec.decode(tail).strip() == answer


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("length", [0, 1, 7, 100, 3001])
def test_exactly_as_many_tokens_are_read_as_asked_for(codec: Codec, length: int) -> None:
    place = 0
    endless = torch.tensor(list((PROSE * 300).encode()), dtype=torch.uint8)

    def source(size: int) -> torch.Tensor:
        nonlocal place
        place += size
        return endless[place - size : place]

    tokens = read(codec, source, length)
    assert len(tokens) == length
    assert (PROSE * 300).startswith(codec.decode(tokens.tolist()))


def test_bytes_that_are_no_text_are_refused_unless_tokens_are_bytes() -> None:
    def noise(size: int) -> torch.Tensor:
        return torch.full((size,), 0xFF, dtype=torch.uint8)

    assert read(Bytes(), noise, 3).tolist() == [255] * 3
    with pytest.raises(ValueError, match="nothing that is UTF-8"):
        read(PAIRS, noise, 3)


def test_what_cannot_be_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match="vocab_size >= 256"):
        BytePairs.train([PROSE], vocab_size=255)
    with pytest.raises(ValueError, match=r"vocab_size=5000, but .* Cure: give it more text"):
        BytePairs.train([PROSE], vocab_size=5000)
    with pytest.raises(ValueError, match="not the JSON text of a tokenizer"):
        BytePairs("{}")


@pytest.mark.parametrize("build", [lambda: BytePairs(PAIRS.json), lambda: BytePairs.train([PROSE], vocab_size=256)])
def test_a_missing_library_is_named_with_the_cure(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'retain\[text\]'"):
        build()
