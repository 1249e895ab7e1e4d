"""Continued text: a stretch of a book is read, and what follows it is scored behind the cut."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from ..book import Book
from ..codec import Bytes, Codec
from ..language import stretch
from .page import AbstractPages, Page, Question, cut


@dataclass(frozen=True, kw_only=True)
class Continued(AbstractPages):
    """A stretch of real text or code from a place that is drawn evenly; the one question has no prompt, and its answer is how the text goes on.

    How surprised a model is by that, with the memory of the stretch, with an empty one and with one of another text, says what its memory is worth where
    nothing is asked. Train and test on books that share no work: ``Corpus.split``.

    Facts of a page: ``offset`` (the byte of the book at which it begins), ``length`` (tokens that are read). A question has none.

    Args:
        book: The text.
        length: Tokens that are read, exactly.
        part: Tokens of each part that they are read in, each with a fresh attention cache; the last may be shorter. None means one part.
        scored: Tokens of the answer, exactly.
        codec: What a token is.

    Raises:
        ValueError: A size is less than 1.

    Examples:
        >>> page = Continued(book=Book.of("to be or not to be, that is the question. "), length=12, part=8, scored=9).page(seed=0)
        >>> [Bytes().decode(part.tolist()) for part in page.parts], Bytes().decode(page.questions[0].answer.tolist())
        (['be, that', ' is '], 'the quest')
    """

    book: Book
    length: int = 512
    part: int | None = None
    scored: int = 128
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        if min(self.length, self.scored, self.part or 1) < 1 or self.part == 0:
            raise ValueError(f"Continued needs length, scored and part of 1 at least, got {self.length}, {self.scored} and {self.part}.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def page(self, seed: int) -> Page:
        offset = random.Random(f"continued {seed}").randrange(len(self.book))
        tokens = stretch(self.book, offset, self.length + self.scored, self.codec)
        question = Question(torch.zeros(0, dtype=torch.long), tokens[self.length :], {})
        return Page(cut(tokens[: self.length], self.part), (question,), {"offset": offset, "length": self.length})
