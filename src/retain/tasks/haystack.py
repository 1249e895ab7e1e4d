"""What facts are hidden in: noise, one sentence again and again, or a book; and how lines are hidden there."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from .codec import Codec, read

CONSONANTS, VOWELS = "bdfghjklmnprstvz", "aeiou"
NOISE_LETTERS = string.ascii_letters + string.digits + " \n"


@runtime_checkable
class Haystack(Protocol):
    """A source of text that has nothing to do with what is asked. ``book.Book`` is one, of real text.

    Examples:
        >>> hay: Haystack = Repeated("tick tock ")
        >>> bytes(hay.draw(14, random.Random(3)).numpy())
        b'k tock tick to'
    """

    def draw(self, length: int, dice: random.Random) -> UInt8[Tensor, " bytes"]:
        """``length`` bytes; where they begin is drawn with ``dice``."""
        ...


@dataclass(frozen=True)
class Noise:
    """Text that means nothing.

    Args:
        of: ``"words"``: made-up words of five letters out of 256, each drawn evenly. ``"bytes"``: letters, digits, spaces and line breaks, each drawn
            evenly.

    Raises:
        ValueError: ``of`` is something else.

    Examples:
        >>> bytes(Noise().draw(17, random.Random(0)).numpy())
        b'pasiz sepes vagir'
    """

    of: Literal["words", "bytes"] = "words"

    def __post_init__(self) -> None:
        if self.of not in ("words", "bytes"):
            raise ValueError(f"Noise.of must be 'words' or 'bytes', got {self.of!r}.")

    def draw(self, length: int, dice: random.Random) -> UInt8[Tensor, " bytes"]:
        if self.of == "words":
            table = _noise_words()
            return table[_even_bytes(-(-length // table.shape[1]), dice).int()].flatten()[:length]
        letters = torch.tensor(list(NOISE_LETTERS.encode()), dtype=torch.uint8)
        return letters[_even_bytes(length, dice).int() % len(letters)]


@dataclass(frozen=True)
class Repeated:
    """One text again and again, from a random place of it on. The default is the noise of RULER (Hsieh et al. 2024).

    Args:
        text: What is repeated.

    Raises:
        ValueError: The text is empty.

    Examples:
        >>> bytes(Repeated().draw(30, random.Random(1)).numpy())
        b'n. The sky is blue. The sun is'
    """

    text: str = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("Repeated.text is empty; it needs at least one character.")

    def draw(self, length: int, dice: random.Random) -> UInt8[Tensor, " bytes"]:
        text = torch.frombuffer(bytearray(self.text.encode()), dtype=torch.uint8)
        start = dice.randrange(len(text))
        return text.repeat(-(-(start + length) // len(text)))[start : start + length]


@dataclass(frozen=True, eq=False)
class Hidden:
    """A haystack with lines in it.

    Args:
        tokens: The whole [time].
        starts: Where each line begins, in the order of the lines.

    Examples:
        >>> Hidden(torch.tensor([46, 46, 65, 66, 46]), starts=(2,)).starts
        (2,)
    """

    tokens: Int[Tensor, " time"]
    starts: tuple[int, ...]


def hide(haystack: Haystack, lines: Sequence[list[int]], length: int, codec: Codec, dice: random.Random) -> Hidden:
    """``length`` tokens: the lines, in their order, at places that are each drawn evenly and aligned to nothing, and hay around them.

    Raises:
        ValueError: The lines alone are longer.

    Examples:
        >>> from retain.tasks.codec import Bytes
        >>> hidden = hide(Repeated("."), [[65, 66], [67]], 9, Bytes(), random.Random(0))
        >>> Bytes().decode(hidden.tokens.tolist()), hidden.starts
        ('...AB...C', (3, 8))
    """
    room = length - sum(map(len, lines))
    if room < 0:
        raise ValueError(f"{length} tokens have no room for lines of {length - room}. Cure: a greater length, or fewer or shorter lines.")
    hay = read(codec, lambda size: haystack.draw(size, dice), room)
    places = sorted(dice.randrange(room + 1) for _ in lines)
    pieces, starts, used, written = [], [], 0, 0
    for line, place in zip(lines, places, strict=True):
        pieces += [hay[used:place], torch.tensor(line, dtype=torch.long)]
        starts.append(place + written)
        used, written = place, written + len(line)
    return Hidden(torch.cat([*pieces, hay[used:]]), tuple(starts))


def made_up(syllables: int, dice: random.Random) -> str:
    """A word such as ``bakoti``: syllables of a consonant and a vowel, each of the 80 drawn evenly.

    Examples:
        >>> made_up(3, random.Random(0))
        'sodizo'
    """
    return "".join(dice.choice(CONSONANTS) + dice.choice(VOWELS) for _ in range(syllables))


def distinct(draw: Callable[[], str], count: int, avoid: Sequence[str] = ()) -> list[str]:
    """``count`` different draws, none of them in ``avoid``.

    Examples:
        >>> letters = iter("abba")
        >>> distinct(lambda: next(letters), 1, avoid="a")
        ['b']
    """
    taken, out = set(avoid), []
    while len(out) < count:
        drawn = draw()
        if drawn not in taken:
            taken.add(drawn)
            out.append(drawn)
    return out


def _even_bytes(length: int, dice: random.Random) -> Tensor:
    return torch.frombuffer(bytearray(dice.randbytes(length)), dtype=torch.uint8) if length else torch.zeros(0, dtype=torch.uint8)


@cache
def _noise_words() -> Tensor:
    """The 256 words of the noise, each with the space behind it [256, 6]. Their length is that of no key."""
    dice = random.Random("the words of the noise")
    words = distinct(lambda: made_up(2, dice) + dice.choice(CONSONANTS), 256)
    return torch.tensor([list(f"{word} ".encode()) for word in words], dtype=torch.uint8)
