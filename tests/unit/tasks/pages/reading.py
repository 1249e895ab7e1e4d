"""How the tests read a page."""

from __future__ import annotations

import hashlib

from torch import Tensor

from retain.tasks import Codec, Page


def text_of(tokens: Tensor, codec: Codec) -> str:
    """The text of tokens."""
    return codec.decode(tokens.tolist())


def check_places(page: Page) -> None:
    """Whether the distance of each question leads to the tokens of its answer."""
    for question in page.questions:
        start = len(page.text) - int(question.facts["distance"])
        assert page.text[start : start + len(question.answer)].tolist() == question.answer.tolist()


def fingerprint(page: Page) -> str:
    """A hash of all that a page holds."""
    questions = [(question.prompt.tolist(), question.answer.tolist(), sorted(question.facts.items())) for question in page.questions]
    parts = ([part.tolist() for part in page.parts], questions, sorted(page.facts.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
