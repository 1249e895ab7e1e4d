"""The task: one marked line somewhere in real text, and a question for it at the end."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

import torch
from torch import Tensor

from .corpus import Book

MARK = "@needle "
DIGITS = 5
KEY_LETTERS = 4


@dataclass(frozen=True)
class Needle:
    """A key, its value, and the line that binds them.

    Examples:
        >>> needle = Needle("kqzv", "48213")
        >>> needle.line, needle.question
        ('\\n@needle kqzv = 48213\\n', '\\n@needle kqzv = ')
    """

    key: str
    value: str

    @property
    def line(self) -> str:
        return f"{self.question}{self.value}\n"

    @property
    def question(self) -> str:
        return f"\n{MARK}{self.key} = "

    @classmethod
    def draw(cls, dice: random.Random) -> Needle:
        """A key of letters and a value of digits, each drawn evenly."""
        return cls(_word(dice, string.ascii_lowercase, KEY_LETTERS), _word(dice, string.digits, DIGITS))


@dataclass(frozen=True)
class Haystack:
    """A stretch of text with a needle in it, up to and with the question; its last byte is the space after ``=``.

    Args:
        text: The bytes, the question included.
        needle: What is hidden.
        depth: Where the needle's line begins, as a share of the text before the question.
    """

    text: Tensor
    needle: Needle
    depth: float


def hide(book: Book, length: int, dice: random.Random) -> Haystack:
    """A haystack of ``length`` bytes from a random place of the book, its needle at an even random depth, not aligned to anything.

    Raises:
        ValueError: ``length`` leaves no room for the needle's line and the question.
    """
    needle = Needle.draw(dice)
    line, question = encode(needle.line), encode(needle.question)
    room = length - len(line) - len(question)
    if room < 0:
        raise ValueError(f"a haystack needs at least {len(line) + len(question)} bytes for the line and the question, got length={length}.")
    hay = book.window(dice.randrange(len(book.text)), room)
    place = dice.randrange(room + 1)
    text = torch.cat([hay[:place], line, hay[place:], question])
    return Haystack(text, needle, place / max(1, room))


def lesson(book: Book, length: int, rows: int, dice: random.Random) -> Tensor:
    """Haystacks with their answers behind them [rows, length]: what the model is trained on, the last five bytes."""
    drawn = [hide(book, length - DIGITS, dice) for _ in range(rows)]
    return torch.stack([torch.cat([one.text, encode(one.needle.value)]) for one in drawn]).long()


def chaff(book: Book, length: int, rows: int, dice: random.Random) -> Tensor:
    """Text without a needle, but with lines that look like one [rows, length]: what the write gate is to leave alone."""
    out = []
    for _ in range(rows):
        text = book.window(dice.randrange(len(book.text)), length).clone()
        for _ in range(3):
            line = encode(lookalike(dice))
            place = dice.randrange(length - len(line))
            text[place : place + len(line)] = line
        out.append(text)
    return torch.stack(out).long()


def lookalike(dice: random.Random) -> str:
    """A line such as ``\\n    total = 317`` or ``\\n@nedle kq = 4``, never one with the mark."""
    while True:
        lead = dice.choice(["\n", "\n    ", "\n@", " "])
        word = _misspelt(dice) if dice.random() < 0.5 else _word(dice, string.ascii_lowercase + "@_", dice.randint(1, 8))
        key = _word(dice, string.ascii_lowercase, dice.randint(1, 6))
        line = f"{lead}{word} {key} = {_word(dice, string.digits, dice.randint(1, 6))}\n"
        if MARK not in line:
            return line


def _misspelt(dice: random.Random) -> str:
    """The mark with one or two of its letters lost or replaced."""
    letters = list(MARK.strip())
    for _ in range(dice.randint(1, 2)):
        letters[dice.randrange(len(letters))] = dice.choice(["", dice.choice(string.ascii_lowercase)])
    return "".join(letters)


def encode(text: str) -> Tensor:
    """The bytes of a text as small integers."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _word(dice: random.Random, alphabet: str, length: int) -> str:
    return "".join(dice.choice(alphabet) for _ in range(length))
