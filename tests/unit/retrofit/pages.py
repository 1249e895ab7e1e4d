"""Pages of random words for tiny models: parts of several lengths, and questions with and without a prompt."""

from __future__ import annotations

from retain.tasks import Page, Question

from .models import words

START = (1, 3)
LENGTHS = ((5, 9, 2), (7,), (4, 6))


def page(seed: int, lengths: tuple[int, ...]) -> Page:
    """A page with a question of three words and an answer of two, and one whose answer of one word stands right behind the start."""
    text = words(1, 50, seed=seed)[0]
    parts = text[: sum(lengths)].split(list(lengths))
    return Page(tuple(parts), (Question(text[30:33], text[40:42], {}), Question(text[:0], text[42:43], {})), {})


def pages() -> list[Page]:
    """Three, of three parts, one and two."""
    return [page(seed, lengths) for seed, lengths in enumerate(LENGTHS)]
