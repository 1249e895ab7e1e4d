"""Code over a cut: a stretch of a file is read, and further down a name that it bound is asked where the code uses it."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..codec import Bytes, Codec
from ..corpus import Corpus
from ..names import Name, names
from .page import AbstractPages, Page, Question, cut

LETTERS_PER_TOKEN = 8
"""Of code that tokens are made of, so many letters a token are looked at; more than tokens of code have on average."""
TRIES = 2000

_Asked = tuple[Name, tuple[list[int], list[int]]]


@dataclass(frozen=True, kw_only=True)
class CodePages(AbstractPages):
    r"""``length`` tokens of a file are read; the prompt is code further down in it, up to the use of a name that those tokens bound, and the name is
    asked.

    A name counts if it is a function, a class, a variable or an import of the module itself and nothing else in the file binds it, so that the use stands
    for that binding. It is in none of the prompt's words, and its kinds take turns. What stands in the file between the stretch and the prompt is not read. The prompt seldom says
    which of the names that were read it wants; what a model knows without the page is what the score without memory tells.

    Facts of a page: ``length`` (tokens), ``names`` (how many could be asked). Facts of a question: ``kind`` (function, class, assignment, import),
    ``distance`` (tokens from where the name is bound to the end of the stretch).

    Args:
        corpus: Files, such as ``Corpus.modules()``.
        length: Tokens that are read, exactly; they begin with a line.
        part: Tokens of each part that they are read in, each with a fresh attention cache; the last may be shorter. None means one part.
        context: Tokens of a prompt at most.
        asked: Questions of a page at most, each for another name; fewer where fewer names can be asked.
        codec: What a token is.

    Raises:
        ValueError: A size is less than 1, no file is long enough, or (from ``page``) no page is found in them.

    Examples:
        >>> corpus = Corpus({"a.py": b"import json\nLIMIT = 20\ndef load(text):\n    return json.loads(text[:LIMIT])\n"})
        >>> page = CodePages(corpus=corpus, length=26, context=12).page(seed=0)
        >>> Bytes().decode(page.text.tolist())
        'import json\nLIMIT = 20\ndef'
        >>> (question,) = page.questions
        >>> [Bytes().decode(part.tolist()) for part in (question.prompt, question.answer)], question.facts
        (['loads(text[:', 'LIMIT'], {'kind': 'assignment', 'distance': 14})
    """

    corpus: Corpus
    length: int = 512
    part: int | None = None
    context: int = 64
    asked: int = 1
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        sizes = {"length": self.length, "part": self.part, "context": self.context, "asked": self.asked}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"CodePages.{name} must be at least 1, got {size}.")
        if not self._files:
            raise ValueError(
                f"CodePages.length={self.length} has no file longer than that among the plain ASCII ones of {len(self.corpus.works)} works. "
                "Cure: a smaller length, or another corpus, such as Corpus.modules()."
            )

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    @cached_property
    def _files(self) -> tuple[str, ...]:
        """The files that are longer than a stretch."""
        return tuple(text.decode() for text in self.corpus.works.values() if len(text) > self.length and text.isascii())

    def page(self, seed: int) -> Page:
        dice = random.Random(f"code pages {seed}")
        for _ in range(TRIES):
            source = dice.choice(self._files)
            if page := self._page(source, dice):
                return page
        raise ValueError(
            f"CodePages found no stretch of {self.length} tokens that binds a name which is used behind it and not {self.context} tokens before, in "
            f"{TRIES} tries on {len(self._files)} files. Cure: a corpus of more Python source, another length, or less context."
        )

    def _page(self, source: str, dice: random.Random) -> Page | None:
        """A page of a stretch around a name that is drawn, if that stretch has names to ask."""
        there = names(source)
        if not there:
            return None
        bound = dice.choice(there).bound
        lines = [0, *(match.end() for match in re.finditer("\n", source[:bound]))]
        start = dice.choice([line for line in lines if bound - line < LETTERS_PER_TOKEN // 2 * self.length] or lines[-1:])
        letters = source[start : start + LETTERS_PER_TOKEN * self.length]
        tokens = self.codec.encode(letters)[: self.length]
        text = self.codec.decode(tokens)
        if len(tokens) < self.length or not letters.startswith(text):
            return None
        end = start + len(text)
        asked = [
            (name, use) for name in there if start <= name.bound and name.bound + len(name.text) <= end and (use := self._use(name, source, end))
        ]
        if not asked:
            return None
        questions = []
        for name, (prompt, answer) in _in_turn(asked, dice)[: self.asked]:
            stands = len(self._cut(source[start : name.bound], name)[0])
            facts = {"kind": name.kind, "distance": self.length - stands}
            questions.append(Question(torch.tensor(prompt), torch.tensor(answer), facts))
        return Page(cut(torch.tensor(tokens), self.part), tuple(questions), {"length": self.length, "names": len(asked)})

    def _use(self, name: Name, source: str, end: int) -> tuple[list[int], list[int]] | None:
        """Prompt and answer at the first use behind ``end`` before which the name is out of sight."""
        word = re.compile(rf"\b{name.text}\b")
        for use in name.uses:
            if use > end:
                before = source[max(end, use - LETTERS_PER_TOKEN * self.context) : use]
                prompt, answer = self._cut(before, name)
                prompt = prompt[-self.context :]
                if prompt and self.codec.decode(answer).lstrip(" ") == name.text and not word.search(self.codec.decode(prompt)):
                    return prompt, answer
        return None

    def _cut(self, before: str, name: Name) -> tuple[list[int], list[int]]:
        """The tokens of ``before`` and the name together, cut before the first that holds a letter of the name."""
        tokens = self.codec.encode(before + name.text)
        end = next(end for end in range(len(tokens) - 1, -1, -1) if len(self.codec.decode(tokens[end:])) >= len(name.text))
        return tokens[:end], tokens[end:]


def _in_turn(asked: list[_Asked], dice: random.Random) -> list[_Asked]:
    """In a random order, but one name of each kind before the second of any: most names of a file are imports, whose use is easily guessed."""
    shuffled, turns = dice.sample(asked, len(asked)), Counter[str]()
    order: dict[str, int] = {}
    for name, _ in shuffled:
        order[name.text] = turns[name.kind]
        turns[name.kind] += 1
    return sorted(shuffled, key=lambda one: order[one[0].text])
