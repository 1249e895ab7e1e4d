"""Text as one long tensor of bytes, to draw windows from."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Book:
    """Works, one behind the other. It is a haystack: what it draws are windows.

    Args:
        text: Their bytes [bytes].
        names: What they are called.

    Raises:
        ValueError: There is no text.

    Examples:
        >>> book = Book.of("abcde")
        >>> bytes(book.window(3, 4).numpy()), len(book), book.count("de")
        (b'deab', 5, 1)
    """

    text: UInt8[Tensor, " bytes"]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.text):
            raise ValueError(f"Book needs at least one byte of text, got none from {len(self.names)} works.")

    @classmethod
    def of(cls, text: str | bytes | bytearray, names: Iterable[str] = ()) -> Book:
        """A book of one piece of text."""
        raw = bytearray(text.encode() if isinstance(text, str) else text)
        return cls(torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.zeros(0, dtype=torch.uint8), tuple(names))

    def __len__(self) -> int:
        return len(self.text)

    def window(self, start: int, length: int) -> UInt8[Tensor, " length"]:
        """``length`` bytes from ``start`` on; behind the last byte the first one follows."""
        place = start % len(self)
        whole = self.text[place : place + length]
        if len(whole) == length:
            return whole
        return self.text.roll(-place).repeat(-(-length // len(self)))[:length]

    def draw(self, length: int, dice: random.Random) -> UInt8[Tensor, " length"]:
        """``length`` bytes from a place that is drawn evenly."""
        return self.window(dice.randrange(len(self)), length)

    def count(self, text: str) -> int:
        """How often ``text`` occurs."""
        return bytes(self.text.numpy()).count(text.encode())
