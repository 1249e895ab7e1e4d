"""Translation: languages that are new in every sample, read one after the other, and then one of them is asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from .task import AbstractTask, Sample

BLANK = 0


@dataclass(frozen=True, kw_only=True)
class Translation(AbstractTask):
    """Lexicons in sequence, ``word meaning word meaning ...``, without replay; blanks; then words of one of them, each followed by its meaning, which is
    asked.

    Token 0 is blank, the next ``foreign`` tokens are words, the others meanings. The languages of a sample have no word in common, and what its words mean
    is drawn evenly, so nothing can be known but from the stream. Of each language all words are shown once in a random order, then again in another.
    Source: Nested Learning's continual translation of novel languages (figure 8), of which this leaves the lexicon.

    Facts: ``languages``, ``asked``, ``since`` (languages that were read after the asked one), ``length``.

    Args:
        languages: How many are read one after the other.
        asked: Which of them is asked, the first being 0.
        words: Of each language.
        shown: How often each word is shown.
        queries: Words that are asked, each once; None means all of them.
        gap: Blanks between the last language and the first word that is asked.
        foreign: Words that there are, for all languages together.
        meanings: What a word may mean.

    Raises:
        ValueError: The sizes do not fit each other.

    Examples:
        >>> sample = Translation(words=2, shown=1, foreign=6, meanings=3).sample(seed=0)
        >>> sample.tokens.tolist(), sample.tokens[sample.asked].tolist()
        ([1, 7, 3, 8, 2, 9, 6, 7, 0, 0, 3, 8, 1, 7], [8, 7])
    """

    languages: int = 2
    asked: int = 0
    words: int = 32
    shown: int = 1
    queries: int | None = None
    gap: int = 2
    foreign: int = 128
    meanings: int = 32

    def __post_init__(self) -> None:
        if min(self.languages, self.words, self.shown) < 1 or self.gap < 0 or self.meanings < 2:
            raise ValueError(
                f"Translation needs a language, a word, a showing, two meanings and no negative gap, got languages={self.languages}, "
                f"words={self.words}, shown={self.shown}, meanings={self.meanings} and gap={self.gap}."
            )
        if not 0 <= self.asked < self.languages:
            raise ValueError(f"Translation.asked must be 0 to {self.languages - 1}, one of the languages, got {self.asked}.")
        if self.languages * self.words > self.foreign:
            raise ValueError(
                f"Translation.foreign must be {self.languages * self.words} at least, {self.words} words a language, got {self.foreign}."
            )
        if not 1 <= self.asked_words <= self.words:
            raise ValueError(f"Translation.queries must be 1 to words={self.words}, got {self.queries}.")

    @property
    def asked_words(self) -> int:
        """How many words are asked."""
        return self.words if self.queries is None else self.queries

    @property
    def vocab_size(self) -> int:
        return 1 + self.foreign + self.meanings

    @property
    def chance(self) -> float:
        """What guessing comes to."""
        return 1 / self.meanings

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"translation {seed}")
        words = dice.sample(range(1, self.foreign + 1), self.languages * self.words)
        meanings = {word: dice.randint(self.foreign + 1, self.foreign + self.meanings) for word in words}
        lexicons = [words[i * self.words : (i + 1) * self.words] for i in range(self.languages)]
        read = [word for lexicon in lexicons for _ in range(self.shown) for word in dice.sample(lexicon, self.words)]
        queried = dice.sample(lexicons[self.asked], self.asked_words)
        taught, quiz = ([token for word in part for token in (word, meanings[word])] for part in (read, queried))
        tokens = torch.tensor([*taught, *[BLANK] * self.gap, *quiz])
        asked = torch.zeros(len(tokens), dtype=torch.bool)
        asked[len(taught) + self.gap + 1 :: 2] = True
        facts = {"languages": self.languages, "asked": self.asked, "since": self.languages - 1 - self.asked, "length": len(tokens)}
        return Sample(tokens, asked, facts)
