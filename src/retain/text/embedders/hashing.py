"""Texts as counts of their words and letter triples: no dependencies, no meaning."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class HashingEmbedder:
    """Each word, and each three letters of it, is counted in the place that a checksum sends it to, with a sign; the root of each count is taken.

    It knows spelling and nothing else: "car" and "automobile" have nothing in common. For tests, and for where no other can be had.

    Args:
        width: Numbers in a vector.

    Raises:
        ValueError: ``width`` is below 16.

    Examples:
        >>> a, b, c = HashingEmbedder().embed(["Python uses indentation", "indentation in Python", "boiled eggs"])
        >>> bool(a @ b > a @ c)
        True
    """

    width: int = 384

    def __post_init__(self) -> None:
        if self.width < 16:
            raise ValueError(f"HashingEmbedder.width must be at least 16, got {self.width}: fewer places are shared by everything.")

    @property
    def identity(self) -> str:
        return f"hashing/1 words and letter triples, width {self.width}"

    def embed(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._vector(text) for text in texts]) if texts else torch.zeros(0, self.width)

    def _vector(self, text: str) -> Tensor:
        places = [0.0] * self.width
        for feature, count in Counter(_features(text)).items():
            number = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
            places[number % self.width] += count**0.5 if number >> 31 else -(count**0.5)
        if not any(places):  # what it is made of cancels
            places[zlib.crc32(text.encode("utf-8", "surrogatepass")) % self.width] = 1.0
        vector = torch.tensor(places)
        return vector / vector.norm()


def _features(text: str) -> list[str]:
    features = []
    for word in _WORD.findall(text.lower()) or [text]:
        marked = f"<{word}>"
        features.append(marked)
        features += [marked[i : i + 3] for i in range(len(marked) - 2)]
    return features
