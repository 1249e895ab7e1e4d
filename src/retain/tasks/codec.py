"""From text to tokens and back: bytes, byte pairs, or the tokenizer of a pretrained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

MOST_AT_ONCE = 1 << 18
"""Bytes that a tokenizer is handed at once: what it keeps of each token beside its number is large."""


@runtime_checkable
class Codec(Protocol):
    """What a text task needs of a tokenizer. Pieces are encoded one by one, so nothing may be added at the ends of a piece.

    Examples:
        >>> codec: Codec = Bytes()
        >>> codec.decode(codec.encode("milk"))
        'milk'
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest token."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """The text of ``tokens``."""
        ...


@dataclass(frozen=True)
class Bytes:
    """Every byte of the UTF-8 form is a token. Tokens cut inside a character decode to the replacement character.

    Examples:
        >>> Bytes().encode("né"), Bytes().vocab_size
        ([110, 195, 169], 256)
    """

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode(errors="replace")


@dataclass(frozen=True)
class BytePairs:
    r"""Byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as in GPT-2), by the ``tokenizers`` library.

    It is its JSON text, so ``path.write_text(codec.json)`` saves it and ``BytePairs(path.read_text())`` loads it.

    Args:
        json: A tokenizer in the JSON form of the ``tokenizers`` library.

    Raises:
        ImportError: The ``tokenizers`` library is missing.
        ValueError: The text is no such tokenizer.

    Examples:
        >>> codec = BytePairs.train(["the milk is in the kitchen\n" * 9], vocab_size=270)
        >>> codec.vocab_size, len(codec.encode("the milk")) < len("the milk"), codec.decode(codec.encode("the milk"))
        (270, True, 'the milk')
        >>> BytePairs(codec.json) == codec
        True
    """

    json: str

    def __post_init__(self) -> None:
        _ = self._tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BytePairs:
        """An encoding of ``vocab_size`` tokens learnt from texts. All 256 bytes are among them, so any text can be encoded.

        Raises:
            ImportError: The ``tokenizers`` library is missing.
            ValueError: ``vocab_size`` is less than 256, or the texts are too short for so many tokens.
        """
        if vocab_size < 256:
            raise ValueError(f"BytePairs.train needs vocab_size >= 256, one token for each byte, got {vocab_size}. For bytes alone use Bytes().")
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        if tokenizer.get_vocab_size() < vocab_size:
            raise ValueError(
                f"BytePairs.train was asked for vocab_size={vocab_size}, but the texts hold only {tokenizer.get_vocab_size()} tokens worth learning. "
                "Cure: give it more text, or ask for fewer tokens."
            )
        return cls(tokenizer.to_str())

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return _tokenizers().Tokenizer.from_str(self.json)
        except ImportError:
            raise
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(
                f"BytePairs.json is not the JSON text of a tokenizer: {error}. Cure: give it what BytePairs.train(...).json holds."
            ) from error

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)


@dataclass(frozen=True)
class Hosted:
    """The tokenizer of a Hugging Face model. Special tokens are neither added nor left out.

    Args:
        tokenizer: What ``AutoTokenizer.from_pretrained`` gives, or anything with its ``encode``, ``decode`` and length.

    Examples:
        >>> class Letters:
        ...     def __len__(self):
        ...         return 128
        ...     def encode(self, text, add_special_tokens):
        ...         return [ord(letter) for letter in text]
        ...     def decode(self, tokens, skip_special_tokens, clean_up_tokenization_spaces):
        ...         return "".join(map(chr, tokens))
        >>> Hosted(Letters()).decode(Hosted(Letters()).encode("milk"))
        'milk'
    """

    tokenizer: Any

    @property
    def vocab_size(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def ask(codec: Codec, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """The tokens of ``prompt + answer``, encoded together and cut where the answer begins.

    Where a token straddles the two (many tokenizers glue a space to the word behind it) it belongs to the answer.

    Examples:
        >>> ask(Bytes(), "a = ", "7")
        ([97, 32, 61, 32], [55])
    """
    whole, head = codec.encode(prompt + answer), codec.encode(prompt)
    shared = next((i for i, (a, b) in enumerate(zip(whole, head, strict=False)) if a != b), min(len(whole), len(head)))
    return whole[:shared], whole[shared:]


def read(codec: Codec, source: Callable[[int], Tensor], length: int) -> Tensor:
    """Exactly ``length`` tokens [length] of a source of bytes, which gives as many bytes as it is asked for, each time further ones.

    Characters that are cut at the ends of what the source gives are left out, except where tokens are bytes.

    Raises:
        ValueError: The bytes are not UTF-8, and tokens are not bytes.

    Examples:
        >>> read(Bytes(), lambda size: torch.full((size,), 97, dtype=torch.uint8), 3)
        tensor([97, 97, 97])
    """
    if isinstance(codec, Bytes):
        return source(length).long()
    pieces, missing = [torch.zeros(0, dtype=torch.long)], length
    while missing > 0:
        tokens = codec.encode(bytes(source(min(4 * missing + 64, MOST_AT_ONCE)).numpy()).decode(errors="ignore"))
        if not tokens:
            raise ValueError("the source of text gave nothing that is UTF-8. Cure: text in that encoding, or codec=Bytes().")
        pieces.append(torch.tensor(tokens, dtype=torch.long))
        missing -= len(tokens)
    return torch.cat(pieces)[:length]


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError("BytePairs needs the tokenizers library. Cure: pip install 'retain[text]', or use Bytes().") from error
    return tokenizers
