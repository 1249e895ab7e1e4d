"""What a memory reads and what it is asked, drawn from the texts of a source."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from retain.text import Embedder

from .embeddings import grid, kept
from .sources import Pair, edited

MOST, UNSEEN, ASKED = 20_000, 1000, 1500
"""Texts that are observed, texts that never are, and texts that there is a question for."""
BOUNDS = (0, 100, 300, 1000, 3000, 10_000, MOST - 100, MOST)
"""Between two of them lies a stretch of the stream; about as many texts have a question in each."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Texts in the order of a seed, as stored embeddings.

    Args:
        texts: Those that are observed.
        unseen: Those that are not.
        questions: Of some of the observed, by their places.
        edits: Of the same, by their places: what the text becomes by a small edit.
        bounds: Where stretches of the stream begin and end. Within a stretch any text is as likely to have a question as any other.
    """

    texts: list[bytes]
    unseen: list[bytes]
    questions: Mapping[int, bytes]
    edits: Mapping[int, bytes]
    bounds: Sequence[int]

    @property
    def rows(self) -> Tensor:
        """All texts of unit length [texts, width]."""
        return unit(self.texts)


@dataclass(frozen=True)
class Material:
    """The texts of a source, and the vectors of all that is asked about them.

    Args:
        pairs: As many as are used.
        asked: How many of them, from the first on, have a question and an edit.
        edits: Their edits.
        vectors: Of every text, question and edit.
    """

    pairs: Sequence[Pair]
    asked: int
    edits: Sequence[str]
    vectors: Mapping[str, bytes]

    @classmethod
    def of(cls, pairs: Sequence[Pair], embedder: Embedder, folder: Path, *, most: int = MOST + UNSEEN, asked: int = ASKED) -> Material:
        """Draw texts from a source, and embed them and what they are asked by."""
        dice = random.Random("text memory")
        drawn = dice.sample(list(pairs), min(most, len(pairs)))
        edits = [edited(pair.text, dice) for pair in drawn[:asked]]
        texts = [*(pair.text for pair in drawn), *(pair.question for pair in drawn[:asked]), *edits]
        return cls(drawn, len(edits), edits, kept(embedder, texts, folder))

    def stream(self, seed: int, unseen: int = UNSEEN, bounds: Sequence[int] = BOUNDS) -> Stream:
        """All texts in an order of their own, of which the last ``unseen`` are never observed."""
        dice = random.Random(f"order {seed}")
        asked, others = list(range(self.asked)), list(range(self.asked, len(self.pairs)))
        stretches, read = list(pairwise(bounds)), len(self.pairs) - unseen
        share = self.asked // len(stretches)
        places = [place for first, end in stretches for place in dice.sample(range(first, end), min(share, end - first))]
        dice.shuffle(asked)
        with_question = dict(zip(places, asked, strict=False))
        rest = [*asked[len(places) :], *others]
        dice.shuffle(rest)
        order = [with_question[place] if place in with_question else rest.pop() for place in range(read)]
        return Stream(
            texts=[self.vectors[self.pairs[i].text] for i in order],
            unseen=[self.vectors[self.pairs[i].text] for i in rest],
            questions={place: self.vectors[self.pairs[i].question] for place, i in with_question.items()},
            edits={place: self.vectors[self.edits[i]] for place, i in with_question.items()},
            bounds=bounds,
        )


def unit(rows: Sequence[bytes]) -> Tensor:
    """Stored embeddings as vectors of length one [texts, width]."""
    vectors = grid(list(rows)).float()
    return vectors / vectors.norm(dim=1, keepdim=True)
