"""A needle over a cut: the hay is read in parts, and its keys are asked for behind all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..needle import Needle
from .page import AbstractPages, Page, Question, cut


@dataclass(frozen=True, kw_only=True)
class NeedlePages(AbstractPages):
    r"""``Needle`` with the cut between the hay and its questions; each question is asked alone.

    Facts of a page: ``kind``, ``needles``, ``rebound``, ``length`` (tokens). Facts of a question: ``depth`` (where the line that answers it begins, as a
    share of the text), ``distance`` (tokens from the value in that line to the end of the text).

    Args:
        needle: What is hidden in what; its length counts its questions and answers as well.
        part: Tokens of each part that the text is read in, each with a fresh attention cache; the last may be shorter. None means one part.

    Raises:
        ValueError: There is not a token in a part.

    Examples:
        >>> from retain.tasks import Bytes
        >>> page = NeedlePages(needle=Needle(length=100), part=40).page(seed=0)
        >>> [Bytes().decode(part.tolist()) for part in page.parts]
        ['low. Here we go. Th\nThe pass key for vog', 'ato is 36720.\nere and back ']
        >>> (question,) = page.questions
        >>> [Bytes().decode(part.tolist()) for part in (question.prompt, question.answer)], question.facts["distance"]
        (['\nThe pass key for vogato is ', '36720'], 20)
    """

    needle: Needle = field(default_factory=Needle)
    part: int | None = None

    def __post_init__(self) -> None:
        if self.part is not None and self.part < 1:
            raise ValueError(f"NeedlePages.part must be at least 1 token, or None for no cut, got {self.part}.")

    @property
    def vocab_size(self) -> int:
        return self.needle.vocab_size

    def page(self, seed: int) -> Page:
        lines, hidden = self.needle.hidden(seed)
        length, questions = len(hidden.tokens), []
        for (prompt, answer), place, offset in zip(lines.asked, lines.places, lines.offsets, strict=True):
            start = hidden.starts[place]
            facts = {"depth": start / length, "distance": length - start - offset}
            questions.append(Question(torch.tensor(prompt), torch.tensor(answer), facts))
        facts = {"kind": self.needle.kind, "needles": self.needle.needles, "rebound": self.needle.rebound, "length": length}
        return Page(cut(hidden.tokens, self.part), tuple(questions), facts)
