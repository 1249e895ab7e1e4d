"""What a text memory asks of an embedder, and what it makes of the vectors it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

GRID = 127  # a stored embedding holds integers from -127 to 127


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. A memory stores which one it was made with, and refuses any other.

    Examples:
        >>> from retain.text import HashingEmbedder
        >>> isinstance(HashingEmbedder(), Embedder)
        True
    """

    @property
    def identity(self) -> str:
        """A name for all that its vectors depend on: equal names, equal vectors."""
        ...

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        ...

    def embed(self, texts: Sequence[str]) -> Tensor:
        """One vector for each text [texts, width], in float32 on the host."""
        ...


def embedded(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    """The vectors of some texts as they are stored: each scaled so that its largest number is 127, and rounded to whole numbers of one byte.

    What is learnt follows from these bytes alone, so a history that is carried to another machine is the same there, whatever the last digits are that its
    processor would give an embedding.

    Raises:
        ValueError: The embedder gave vectors of another number or width than it promised, or one without direction or with NaN in it.
    """
    vectors = embedder.embed(texts)
    if tuple(vectors.shape) != (len(texts), embedder.width):
        raise ValueError(
            f"the embedder {embedder.identity!r} gave vectors of shape {list(vectors.shape)} for {len(texts)} texts, and promised a width of "
            f"{embedder.width}. Cure: let embed return [texts, width]."
        )
    vectors = vectors.detach().to("cpu", torch.float32)
    largest = vectors.abs().amax(dim=1, keepdim=True)
    if not bool(torch.isfinite(vectors).all()) or bool((largest == 0).any()):
        raise ValueError(
            f"the embedder {embedder.identity!r} gave a vector that points nowhere: NaN, infinite, or all zero. Cure: a vector with a direction for every text."
        )
    grid = (vectors / largest * GRID).round().to(torch.int8)
    return [bytes(row.numpy().tobytes()) for row in grid]
