"""Memories of one size, and search over texts that are kept: each is shown a stream of embeddings, and asked how near an answer comes to every text."""

from __future__ import annotations

import random
from typing import Protocol

import torch
from torch import Tensor

from retain.text import MemoryConfig
from retain.text.learner import Learner
from retain.text.patterns import Patterns

from .embeddings import grid
from .material import unit


class Remembers(Protocol):
    """What is held to the exams."""

    @property
    def bytes(self) -> int:
        """How large it is now, texts aside."""
        ...

    def observe(self, text: bytes) -> None:
        """Take in the next text of the stream."""
        ...

    def scores(self, questions: list[bytes]) -> Tensor:
        """How near it finds each text that it has observed to each question [questions, texts]."""
        ...

    def strangeness(self, texts: list[bytes]) -> Tensor:
        """A number for each text that is larger for texts that it finds new."""
        ...


class Distinct(Patterns):
    """Patterns of texts that are known to differ, for a learner that is not asked how sure it is.

    No equal of a text is looked for, and none is recalled while it learns, which would take more time than the steps of a small memory; the steps are the
    same.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.learning = False

    def near_keys(self, key: Tensor) -> tuple[Tensor, int]:
        return key.new_zeros(0), len(self)

    def near_values(self, answer: Tensor, recent: bool = False) -> Tensor:
        return answer.new_zeros(len(self)) if self.learning else super().near_values(answer, recent)


class Neural:
    """The learner of ``retain.text``; the texts that its answers are compared with lie beside it, all of them."""

    def __init__(self, config: MemoryConfig, width: int) -> None:
        self.learner, self.texts = Learner(config, width), list[bytes]()
        self.learner.patterns = self.patterns = Distinct(width)

    @property
    def bytes(self) -> int:
        return sum(w.numel() * w.element_size() for w in self.learner.weights.tensors().values())

    def observe(self, text: bytes) -> None:
        self.patterns.learning = True
        self.learner.observe(len(self.texts) + 1, text, text, self.learner.config.learning_rate)
        self.patterns.learning = False
        self.texts.append(text)

    def scores(self, questions: list[bytes]) -> Tensor:
        return torch.stack([self.learner.scores(self.learner.answer(self.learner.key(question))) for question in questions])

    def strangeness(self, texts: list[bytes]) -> Tensor:
        return torch.tensor([self.learner.calibration.surprise(self.learner.error(text, text)) for text in texts])


class LeastSquares:
    """A matrix in closed form: the one that answers all texts so far best, in squares, with a penalty of one on its own squares."""

    def __init__(self, width: int) -> None:
        self.width, self.gram, self.texts = width, torch.zeros(width, width, dtype=torch.float64), list[bytes]()
        self.waiting = list[bytes]()

    @property
    def bytes(self) -> int:
        return 4 * self.width**2

    def observe(self, text: bytes) -> None:
        self.texts.append(text)
        self.waiting.append(text)

    def scores(self, questions: list[bytes]) -> Tensor:
        answers = torch.nn.functional.normalize(unit(questions) @ self._matrix(), dim=1)
        return answers @ unit(self.texts).T

    def strangeness(self, texts: list[bytes]) -> Tensor:
        rows = unit(texts)
        return (rows - rows @ self._matrix()).square().sum(1)

    def _matrix(self) -> Tensor:
        if self.waiting:
            rows = unit(self.waiting).double()
            self.gram += rows.T @ rows
            self.waiting.clear()
        return torch.linalg.solve(self.gram + torch.eye(self.width), self.gram).float()


class Search:
    """Cosine search over embeddings that are kept: all of them, or as many as there is room for, each observed text being among them as likely as any other.

    Args:
        room: How many are kept; None for all.
        seed: Of which ones.
    """

    def __init__(self, room: int | None = None, seed: int = 0) -> None:
        self.room, self.dice, self.kept, self.seen = room, random.Random(f"reservoir {seed}"), list[tuple[int, bytes]](), 0

    @property
    def bytes(self) -> int:
        return sum(len(row) for _, row in self.kept)

    def observe(self, text: bytes) -> None:
        if self.room is None or self.seen < self.room:
            self.kept.append((self.seen, text))
        elif (place := self.dice.randrange(self.seen + 1)) < self.room:
            self.kept[place] = (self.seen, text)
        self.seen += 1

    def scores(self, questions: list[bytes]) -> Tensor:
        found = torch.full((len(questions), self.seen), -2.0)
        found[:, [place for place, _ in self.kept]] = self._near(questions)
        return found

    def strangeness(self, texts: list[bytes]) -> Tensor:
        return 1 - self._near(texts).amax(dim=1)

    def _near(self, texts: list[bytes]) -> Tensor:
        """Cosines of whole numbers, so that a text that is kept is nearest to itself exactly."""
        rows, kept = grid(texts).double(), grid([row for _, row in self.kept]).double()
        return (rows @ kept.T / (rows.norm(dim=1)[:, None] * kept.norm(dim=1))).float()
