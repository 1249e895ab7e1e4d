"""The embeddings of the texts that a memory has read, beside its weights: what its answers are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

RECENT = 8192  # patterns that an observation is compared with
EXCITED = 0.5  # from this cosine on a key excites another
ROWS = 512  # worked on together
SAME = 0.95  # and from this one on it is the same text, nearly


class Patterns:
    """Keys and values on the grid of stored embeddings, in the order in which they were read.

    Whole numbers this small have products that are exact, so that what is near to what does not depend on the machine either.
    """

    def __init__(self, width: int) -> None:
        self.width, self.ids = width, list[int]()
        self._rows = torch.zeros(2, 64, width, dtype=torch.int8)  # keys and values
        self._norms = torch.zeros(2, 64)
        self._floats = torch.empty(ROWS, width)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, number: int, key: Tensor, value: Tensor) -> None:
        self.extend([number], key[None], value[None])

    def extend(self, numbers: list[int], keys: Tensor, values: Tensor) -> None:
        """Put texts behind those that are there: their keys and values [texts, width]."""
        n, size = len(self), len(self) + len(numbers)
        if size > self._rows.shape[1]:
            room = torch.zeros(2, max(size, 2 * self._rows.shape[1]), self.width, dtype=torch.int8)
            room[:, :n], norms = self._rows[:, :n], torch.zeros(2, room.shape[1])
            norms[:, :n] = self._norms[:, :n]
            self._rows, self._norms = room, norms
        for i, part in enumerate((keys, values)):
            self._rows[i, n:size] = part
            for at in range(n, size, ROWS):
                rows = slice(at, min(at + ROWS, size))
                self._norms[i, rows] = self._rows[i, rows].float().square().sum(1).sqrt()
        self.ids += numbers

    def key(self, index: int) -> Tensor:
        return self._rows[0, index]

    def near_keys(self, key: Tensor) -> tuple[Tensor, int]:
        """The cosine of each recent pattern's key with ``key``, and the place of the first of them."""
        first = max(0, len(self) - RECENT)
        return self._near(0, first, key) / key.square().sum().sqrt(), first

    def near_values(self, answer: Tensor, recent: bool = False) -> Tensor:
        """The cosine of each pattern's value, or of each recent one's, with an answer in the space of embeddings."""
        return self._near(1, max(0, len(self) - RECENT) if recent else 0, answer) / answer.norm().clamp(min=1e-12)

    def _near(self, part: int, first: int, vector: Tensor) -> Tensor:
        """The products with ``vector``, over the norms. A few rows at a time become floats, in one place that stays near the processor."""
        rows, norms = self._rows[part, first : len(self)], self._norms[part, first : len(self)]
        products = torch.empty_like(norms)
        for at in range(0, len(norms), ROWS):
            some = self._floats[: len(norms) - at]
            torch.mv(some.copy_(rows[at : at + ROWS]), vector, out=products[at : at + ROWS])
        return products.div_(norms)
