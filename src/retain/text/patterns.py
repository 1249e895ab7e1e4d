"""The embeddings of the texts that a memory has read, beside its weights: what its answers are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

RECENT = 8192  # patterns that an observation is compared with
FINER = 128  # steps of a fine grid in one of the grid of bytes
EXCITED = 0.5  # from this cosine on a key excites another
ROWS = 512  # of which floats are made together
SAME = 0.95  # and from this one on it is the same text, nearly


class Patterns:
    """Keys and values on the grid of stored embeddings, in the order in which they were read.

    Whole numbers this small have products that are exact, so that what is near to what does not depend on the machine either.
    """

    def __init__(self, width: int) -> None:
        self.width, self.ids = width, list[int]()
        self._rows = torch.zeros(2, 64, width, dtype=torch.int8)  # keys and values
        self._norms = torch.zeros(2, 64)

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
        """The cosine of each recent pattern's key with ``key``, which is on the grid, and the place of the first of them."""
        first = max(0, len(self) - RECENT)
        return self._products(0, first, key) / self._norms[0, first : len(self)] / key.float().square().sum().sqrt(), first

    def near_values(self, answer: Tensor, recent: bool = False) -> Tensor:
        """The cosine of each pattern's value, or of each recent one's, with an answer in the space of embeddings, which is put on a grid of 15 bits."""
        first = max(0, len(self) - RECENT) if recent else 0
        fine = (answer * (127 * FINER / answer.abs().max().clamp(min=1e-30))).round()
        coarse = (fine / FINER).round()
        products = self._products(1, first, coarse).double() * FINER + self._products(1, first, fine - coarse * FINER)
        return (products / self._norms[1, first : len(self)] / fine.norm().clamp(min=1.0)).float()

    def _products(self, part: int, first: int, vector: Tensor) -> Tensor:
        """Those with a vector of whole numbers from -127 to 127, in bytes: they are a quarter of what floats are, and a machine that has products of bytes is
        as much faster again."""
        return torch.ops.aten._int_mm(self._rows[part, first : len(self)], vector.to(torch.int8)[:, None])[:, 0]
