"""Where keys and values come from: the words that a tokenizer has one token for, or random letters."""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from .codec import Codec

WORD = re.compile(" ([a-z]{3,})")


@runtime_checkable
class Words(Protocol):
    """A source of words.

    Examples:
        >>> words: Words = Letters(2)
        >>> words.count, words.draw(random.Random(0))
        (2704, 'RN')
    """

    @property
    def count(self) -> int:
        """How many different words there are."""
        ...

    def draw(self, dice: random.Random) -> str:
        """One of them, each as likely."""
        ...


@dataclass(frozen=True)
class Letters:
    """Strings of random letters, each of a-z and A-Z evenly.

    Args:
        length: Letters of a string.

    Raises:
        ValueError: There is not one letter.

    Examples:
        >>> Letters(4).draw(random.Random(1))
        'gSNn'
    """

    length: int = 4

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"Letters.length must be at least 1, got {self.length}.")

    @property
    def count(self) -> int:
        return len(string.ascii_letters) ** self.length

    def draw(self, dice: random.Random) -> str:
        return "".join(dice.choices(string.ascii_letters, k=self.length))


@dataclass(frozen=True)
class Vocabulary:
    """A list of words.

    Args:
        words: They are all different.

    Raises:
        ValueError: There is no word, or one stands there twice.

    Examples:
        >>> words = Vocabulary(("milk", "bread", "salt", "pepper", "oil"))
        >>> trained, held_out = words.split(0.2)
        >>> trained.count, held_out.count, set(trained.words) & set(held_out.words)
        (4, 1, set())
    """

    words: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) < len(self.words):
            raise ValueError(f"Vocabulary.words must be different words, one at least, got {len(self.words)} of which {len(set(self.words))} differ.")

    @classmethod
    def of(cls, codec: Codec) -> Vocabulary:
        """The lower-case words of three letters and more that are one token with the space before them, in the order of their tokens.

        Raises:
            ValueError: There is none, as where tokens are bytes.

        Examples:
            >>> from retain.tasks import BytePairs
            >>> codec = BytePairs.train(["the milk is in the kitchen\\n" * 9], vocab_size=272)
            >>> Vocabulary.of(codec).words
            ('the', 'kit', 'mil', 'kitchen', 'milk')
        """
        found = ((token, WORD.fullmatch(codec.decode([token]))) for token in range(codec.vocab_size))
        words = tuple(match[1] for token, match in found if match and codec.encode(match[0]) == [token])
        if not words:
            raise ValueError("Vocabulary.of found no word that is one token with the space before it. Cure: another codec, or Letters(4).")
        return cls(words)

    def split(self, held_out: float = 0.2, seed: int = 0) -> tuple[Vocabulary, Vocabulary]:
        """A vocabulary to train on and one that is held out, without a word in common.

        Args:
            held_out: The share of words that is held out, rounded.
            seed: Which ones. Nothing else but the words decides it.

        Raises:
            ValueError: One of the sides would be empty.
        """
        words = sorted(self.words)
        random.Random(f"held out {seed}").shuffle(words)
        cut = round(held_out * len(words))
        if not 0 < cut < len(words):
            raise ValueError(
                f"Vocabulary.split(held_out={held_out}) holds out {cut} words of {len(words)}; both sides need one. Cure: another share."
            )
        return Vocabulary(tuple(sorted(words[cut:]))), Vocabulary(tuple(sorted(words[:cut])))

    @property
    def count(self) -> int:
        return len(self.words)

    def draw(self, dice: random.Random) -> str:
        return dice.choice(self.words)
