"""Language modelling: every token of a window of text is asked."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .book import Book
from .codec import Bytes, Codec, read
from .task import AbstractTask, Sample


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(AbstractTask):
    """Windows of a book, from places that are drawn evenly; all tokens but the first are asked.

    Train and test on books that share no work: ``Corpus.split``.

    Facts: ``offset``, the byte of the book at which the window begins.

    Args:
        book: The text.
        length: Tokens of a sample, exactly.
        codec: What a token is.

    Raises:
        ValueError: The length is less than 2.

    Examples:
        >>> sample = LanguageModelling(book=Book.of("to be or not to be, that is the question. "), length=9).sample(seed=0)
        >>> Bytes().decode(sample.tokens.tolist()), Bytes().decode(sample.tokens[sample.asked].tolist()), sample.facts["offset"]
        ('hat is th', 'at is th', 21)
    """

    book: Book
    length: int = 1024
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"LanguageModelling.length must be at least 2, one token to read and one to ask, got {self.length}.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        offset = random.Random(f"language {seed}").randrange(len(self.book))
        return Sample(stretch(self.book, offset, self.length, self.codec), torch.arange(self.length) > 0, {"offset": offset})


def stretch(book: Book, start: int, length: int, codec: Codec) -> Tensor:
    """Exactly ``length`` tokens [length] of a book from its byte ``start`` on.

    Examples:
        >>> stretch(Book.of("to be or not to be"), 3, 5, Bytes()).tolist() == list(b"be or")
        True
    """
    place = start

    def on(size: int) -> Tensor:
        nonlocal place
        place += size
        return book.window(place - size, size)

    return read(codec, on, length)
