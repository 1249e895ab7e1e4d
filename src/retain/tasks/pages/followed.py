"""Text behind what is asked: how long a memory holds a fact while it reads on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import torch

from ..codec import Bytes, Codec, read
from ..haystack import Haystack, Repeated
from .page import AbstractPages, Count, Page, check_count, cut, draw_count


@dataclass(frozen=True, kw_only=True)
class Followed(AbstractPages):
    """Pages with text behind them that has nothing to do with what is asked. All distances count it.

    Facts of a page: those of the inner one, ``followed`` (tokens of text behind it), and ``length`` with them.

    Args:
        pages: The pages that are followed.
        haystack: The text, such as ``Corpus.documentation().book()``.
        length: Tokens of it, exactly.
        part: Tokens of each further part that it is read in, each with a fresh attention cache; the last may be shorter. None means that the text
            stands in the last part of the page, whose cache it shares.
        codec: What a token is; the one of the pages.

    Raises:
        ValueError: A count is out of range, or the codec has another vocabulary than the pages.

    Examples:
        >>> from retain.tasks import Letters, Pairs
        >>> pages = Followed(pages=Pairs(facts=1, keys=Letters(2)), length=20, part=8)
        >>> page = pages.page(seed=0)
        >>> [Bytes().decode(part.tolist()) for part in page.parts]
        [' Hw -> FK\\n', ' is blue', '. The su', 'n is']
        >>> Bytes().decode(page.text[-page.questions[0].facts["distance"] :].tolist())
        ' FK\\n is blue. The sun is'
    """

    pages: AbstractPages
    haystack: Haystack = field(default_factory=Repeated)
    length: Count = 1024
    part: int | None = None
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        check_count("Followed.length", self.length)
        if self.part is not None and self.part < 1:
            raise ValueError(f"Followed.part must be at least 1 token, or None for no cut, got {self.part}.")
        if self.codec.vocab_size != self.pages.vocab_size:
            raise ValueError(
                f"Followed.codec must be the one of the pages, got one of {self.codec.vocab_size} tokens for pages of {self.pages.vocab_size}."
            )

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def page(self, seed: int) -> Page:
        inner, dice = self.pages.page(seed), random.Random(f"followed {seed}")
        length = draw_count(self.length, dice)
        text = read(self.codec, lambda size: self.haystack.draw(size, dice), length)
        parts = (*inner.parts[:-1], torch.cat([inner.parts[-1], text])) if self.part is None else (*inner.parts, *cut(text, self.part))
        facts = {**inner.facts, "followed": length, "length": sum(map(len, parts))}
        return replace(inner, parts=parts, questions=tuple(question.farther(length) for question in inner.questions), facts=facts)
