"""What a learner asks of the weights it learns with, whichever rule moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """A memory that was asked by a key, as it stood.

    Args:
        key: What it was asked by.
        target: What it should have answered.
        answer: What it did answer.
        raw: The error of its answer: by the rule's own loss, or by what rises with it and is never below zero.
        passed: What went through each of its layers, if a step will want that.
    """

    key: Tensor
    target: Tensor
    answer: Tensor
    raw: float
    passed: tuple[Any, ...] = ()


class Weights(Protocol):
    """The weights of a memory, and whatever else its rule carries from step to step.

    Channels are embeddings as vectors of length one, whose last entry is zero.
    """

    def key(self, channels: Tensor) -> Tensor:
        """What the memory is asked by, for a text with these channels."""
        ...

    def answer(self, key: Tensor) -> Tensor:
        """What it answers, as it stands."""
        ...

    def ask(self, key: Tensor, channels: Tensor) -> Asked:
        """Its answer, held against the channels of what it should be."""
        ...

    def move(self, asked: Asked, learning_rate: float) -> float:
        """Take the step towards what was asked for, and say how far all weights moved together. Nothing may have moved them since they were asked.

        Raises:
            ValueError: The rate is more than the rule bears.
        """
        ...

    def matrices(self) -> list[Tensor]:
        """The weights that answer."""
        ...

    def hash(self) -> str:
        """16 hexadecimal digits that name all of it."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be saved."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``tensors``, which may hold more than these."""
        ...
