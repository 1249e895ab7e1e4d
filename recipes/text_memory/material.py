"""What a memory reads and what it is asked, drawn from the texts of a source."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from retain.text import Embedder

from .embeddings import grid, kept
from .sources import Pair, edited

MOST, UNSEEN, ASKED = 20_000, 1000, 1500
"""Texts that are observed, texts that never are, and texts that there is a question for."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Texts in the order of a seed, as stored embeddings.

    Args:
        texts: Those that are observed.
        unseen: Those that are not.
        questions: Of some of the observed, by their places.
        edits: Of some of the observed, by their places: what the text becomes by a small edit.
    """

    texts: list[bytes]
    unseen: list[bytes]
    questions: Mapping[int, bytes]
    edits: Mapping[int, bytes]

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

    def stream(self, seed: int, unseen: int = UNSEEN) -> Stream:
        """All texts in an order of their own; the last ``unseen`` are never observed.

        Which texts have a question is drawn, too, and does not depend on the text; but the first and the last texts to be observed all have one.
        """
        dice = random.Random(f"order {seed}")
        asked, others = list(range(self.asked)), list(range(self.asked, len(self.pairs)))
        dice.shuffle(asked)
        dice.shuffle(others)
        ends = self.asked // 5
        middle = [*asked[2 * ends :], *others[unseen:]]
        dice.shuffle(middle)
        order = [*asked[:ends], *middle, *asked[ends : 2 * ends], *others[:unseen]]
        read = len(order) - unseen
        with_question = {place: i for place, i in enumerate(order[:read]) if i < self.asked}
        return Stream(
            texts=[self.vectors[self.pairs[i].text] for i in order[:read]],
            unseen=[self.vectors[self.pairs[i].text] for i in order[read:]],
            questions={place: self.vectors[self.pairs[i].question] for place, i in with_question.items()},
            edits={place: self.vectors[self.edits[i]] for place, i in with_question.items()},
        )


def unit(rows: Sequence[bytes]) -> Tensor:
    """Stored embeddings as vectors of length one [texts, width]."""
    vectors = grid(list(rows)).float()
    return vectors / vectors.norm(dim=1, keepdim=True)
