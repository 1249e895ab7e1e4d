"""State tracking: words over a few letters, read one by one, and what a finite automaton or a counter knows after each."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate, permutations
from typing import Literal

import torch

from .task import AbstractTask, Sample

Asks = Literal["every", "last"]
S3 = tuple(permutations(range(3)))
"""The elements of the symmetric group of three things, in alphabetical order: element 0 leaves all in place. ``S3[g][i]`` is where g sends i."""


@dataclass(frozen=True, kw_only=True)
class Parity(AbstractTask):
    """Whether a word of 0s and 1s holds an odd number of 1s.

    Tokens 0 and 1 are the letters, 2 ends the word. With ``asks="every"`` the label of each place but the first is the parity of all letters before it;
    labels are no part of the stream. With ``asks="last"`` the parity of the word follows the end, as a token, and only that is asked. Letters are
    drawn evenly, so chance is 1/2. Source: the parity of Bhattamishra et al. 2020 and Irie et al. 2023, whose bins are two ranges of lengths.

    Facts: ``length``, the letters of the word.

    Args:
        shortest: Letters of a word at least.
        longest: Letters at most; the lengths between are drawn evenly.
        asks: The parity after every letter, or of the whole word.

    Raises:
        ValueError: The range of lengths is empty or begins below 1, or ``asks`` is something else.

    Examples:
        >>> every, last = Parity(shortest=4, longest=4).sample(0), Parity(shortest=4, longest=4, asks="last").sample(0)
        >>> every.tokens.tolist(), every.answers[every.asked].tolist()
        ([0, 1, 1, 1, 2], [0, 1, 0, 1])
        >>> last.tokens.tolist(), last.answers[last.asked].tolist()
        ([0, 1, 1, 1, 2, 1], [1])
    """

    shortest: int = 1
    longest: int = 40
    asks: Asks = "every"

    def __post_init__(self) -> None:
        _check(self, self.asks)

    @property
    def vocab_size(self) -> int:
        return 3

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"parity {seed}")
        word = [dice.randrange(2) for _ in range(dice.randint(self.shortest, self.longest))]
        return _spell(word, [ones % 2 for ones in accumulate(word)], 2, self.asks)


@dataclass(frozen=True, kw_only=True)
class S3Word(AbstractTask):
    """The word problem of S3, the permutations of three things: the product of all elements so far, the first applied first.

    Tokens 0 to 5 are the elements in the order of ``S3``, 6 ends the word. After reading g_1 ... g_t the answer is the element p_t with
    ``S3[p_t][i] == S3[g_t][S3[p_(t-1)][i]]``. With ``asks="every"`` it is the label of the place behind g_t and no part of the stream; with
    ``asks="last"`` p of the whole word follows the end, as a token, and only that is asked. Elements are drawn evenly, so chance is 1/6. Source: Merrill
    et al. 2024, The Illusion of State, for S5; S3 is the smallest group that is not commutative.

    Facts: ``length``, the elements of the word.

    Args:
        shortest: Elements of a word at least.
        longest: Elements at most; the lengths between are drawn evenly.
        asks: The product after every element, or of the whole word.

    Raises:
        ValueError: The range of lengths is empty or begins below 1, or ``asks`` is something else.

    Examples:
        >>> sample = S3Word(shortest=4, longest=4).sample(0)
        >>> sample.tokens.tolist(), sample.answers[sample.asked].tolist()
        ([1, 3, 1, 3, 6], [1, 2, 4, 0])
    """

    shortest: int = 1
    longest: int = 40
    asks: Asks = "every"

    def __post_init__(self) -> None:
        _check(self, self.asks)

    @property
    def vocab_size(self) -> int:
        return 7

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"S3 {seed}")
        word = [dice.randrange(6) for _ in range(dice.randint(self.shortest, self.longest))]
        return _spell(word, list(accumulate(word, _then)), 6, self.asks)


@dataclass(frozen=True, kw_only=True)
class EvenCopies(AbstractTask):
    """The languages (aa)* and (abab)*: whether a word is an even number of copies of its unit.

    Tokens 0 and 1 are the letters a and b, 2 ends the word; answers are 1 for a word of the language and 0 for any other. With ``asks="every"`` the label
    of each place but the first says whether the letters before it are a word of the language; labels are no part of the stream. With
    ``asks="last"`` the answer for the whole word follows the end, as a token, and only that is asked. The number of copies is drawn evenly. Source:
    Bhattamishra et al. 2020 and Irie et al. 2023, who ask which letters may follow: after any prefix the next letter may, and the end
    may where the answer here is 1.

    All words are alike but for their length. Chance is what the rarer answer leaves: with ``asks="last"`` 1/2 (if the range holds as many even numbers as
    odd ones), with ``asks="every"`` 1/2 for the unit a and 3/4 for ab, where whole sequences must be counted.

    Facts: ``length``, the letters of the word, and ``copies``.

    Args:
        unit: ``"a"`` or ``"ab"``.
        shortest: Copies of the unit at least.
        longest: Copies at most.
        asks: After every letter, or the whole word.

    Raises:
        ValueError: The unit is another, the range is empty or begins below 1, or ``asks`` is something else.

    Examples:
        >>> sample = EvenCopies(unit="ab", shortest=3, longest=3).sample(0)
        >>> sample.tokens.tolist(), sample.answers[sample.asked].tolist()
        ([0, 1, 0, 1, 0, 1, 2], [0, 0, 0, 1, 0, 0])
    """

    unit: Literal["a", "ab"] = "a"
    shortest: int = 1
    longest: int = 40
    asks: Asks = "every"

    def __post_init__(self) -> None:
        if self.unit not in ("a", "ab"):
            raise ValueError(f"EvenCopies.unit must be 'a' or 'ab', got {self.unit!r}.")
        _check(self, self.asks)

    @property
    def vocab_size(self) -> int:
        return 3

    def sample(self, seed: int) -> Sample:
        copies = random.Random(f"even copies {seed}").randint(self.shortest, self.longest)
        word = ["ab".index(letter) for letter in self.unit * copies]
        accepted = [int((i + 1) % (2 * len(self.unit)) == 0) for i in range(len(word))]
        return _spell(word, accepted, 2, self.asks, copies=copies)


@dataclass(frozen=True, kw_only=True)
class AnBn(AbstractTask):
    """The languages a^n b^n and a^n b^n c^n: what follows, wherever only one thing can.

    Tokens 0, 1, ... are the letters, the token behind the last letter ends the word. The stream is the word and its end. Asked is every token behind the
    first b, the end included: n is known by then, so each is determined. Before that an a or a b may follow, and nothing is asked. A guess that
    always says b is right in most places, so count whole sequences; there chance is about one over the lengths that can be drawn. Source: Bhattamishra
    et al. 2020 and Irie et al. 2023.

    Facts: ``n`` and ``length``, the letters of the word.

    Args:
        letters: 2 for a^n b^n, 3 for a^n b^n c^n.
        shortest: The least n.
        longest: The greatest n; those between are drawn evenly.

    Raises:
        ValueError: ``letters`` is neither, or the range is empty or begins below 1.

    Examples:
        >>> sample = AnBn(shortest=3, longest=3).sample(0)
        >>> sample.tokens.tolist(), sample.tokens[sample.asked].tolist()
        ([0, 0, 0, 1, 1, 1, 2], [1, 1, 2])
    """

    letters: Literal[2, 3] = 2
    shortest: int = 1
    longest: int = 40

    def __post_init__(self) -> None:
        if self.letters not in (2, 3):
            raise ValueError(f"AnBn.letters must be 2 or 3, got {self.letters}.")
        _check(self, "last")

    @property
    def vocab_size(self) -> int:
        return self.letters + 1

    def sample(self, seed: int) -> Sample:
        n = random.Random(f"a^n b^n {seed}").randint(self.shortest, self.longest)
        tokens = torch.cat([torch.arange(self.letters).repeat_interleave(n), torch.tensor([self.letters])])
        return Sample(tokens, torch.arange(len(tokens)) > n, {"n": n, "length": self.letters * n})


def _then(first: int, second: int) -> int:
    """The element that does ``first`` and then ``second``."""
    return S3.index(tuple(S3[second][S3[first][i]] for i in range(3)))


def _spell(word: list[int], states: list[int], end: int, asks: Asks, **facts: int) -> Sample:
    """A word whose ``states[t]`` is the answer after letter t."""
    facts["length"] = len(word)
    if asks == "last":
        tokens = torch.tensor([*word, end, states[-1]])
        return Sample(tokens, torch.arange(len(tokens)) > len(word), facts)
    tokens = torch.tensor([*word, end])
    return Sample(tokens, torch.arange(len(tokens)) > 0, facts, torch.tensor([word[0], *states]))


def _check(task: Parity | S3Word | EvenCopies | AnBn, asks: str) -> None:
    name = type(task).__name__
    if not 1 <= task.shortest <= task.longest:
        raise ValueError(f"{name} needs 1 <= shortest <= longest, got shortest={task.shortest} and longest={task.longest}.")
    if asks not in ("every", "last"):
        raise ValueError(f"{name}.asks must be 'every' or 'last', got {asks!r}.")
