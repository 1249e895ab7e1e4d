"""Pairs: lines that bind keys to values in one of many wordings, and keys that are asked for theirs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from ..codec import Bytes, Codec, ask
from ..haystack import distinct
from ..words import Letters, Words
from .page import AbstractPages, Count, Page, Question, check_count, draw_count

KEY, VALUE = " {key}", " {value}"


@dataclass(frozen=True)
class Format:
    r"""How a pair is written and how its value is asked for. The answer is a space and the value.

    Args:
        line: With `` {key}`` and, behind a space as well, `` {value}``, so that words are one token.
        ask: With `` {key}``; it ends where the space before the value would stand.

    Raises:
        ValueError: A place is missing or there twice, or the question ends with a space.

    Examples:
        >>> form = Format(" {key} = {value}\n", " {key} =")
        >>> form.write("milk", "white"), form.question("milk")
        (' milk = white\n', ' milk =')
    """

    line: str
    ask: str

    def __post_init__(self) -> None:
        if (self.line.count(KEY), self.line.count(VALUE), self.ask.count(KEY), self.ask.count("{value}")) != (1, 1, 1, 0):
            raise ValueError(
                f"Format needs {KEY!r} and {VALUE!r} once in its line, and {KEY!r} alone in its question, got {self.line!r} and {self.ask!r}."
            )
        if self.ask[-1].isspace():
            raise ValueError(f"Format.ask must end before the space that belongs to the answer, got {self.ask!r}.")

    def write(self, key: str, value: str) -> str:
        """The line that binds the key to the value."""
        return self.line.format(key=key, value=value)

    def question(self, key: str) -> str:
        """What asks for the value of the key."""
        return self.ask.format(key=key)

    def place(self, key: str, value: str) -> int:
        """Where in the line the space before the value stands."""
        before, _, _ = self.line.partition(VALUE)
        return len(before.format(key=key))


TRAINED_FORMATS = (
    Format(" {key} = {value}\n", " {key} ="),
    Format(" {key}: {value}\n", " {key}:"),
    Format(" {key} -> {value}\n", " {key} ->"),
    Format("- {key} => {value};\n", "- {key} =>"),
    Format("| {key} | {value} |\n", "| {key} |"),
    Format(" {key} is called {value}.\n", " {key} is called"),
    Format(" {key} means {value}.\n", " {key} means"),
    Format("Set {key} to {value}.\n", "Set {key} to"),
    Format("The code of {key} is {value}.\n", "The code of {key} is"),
    Format("The code of {key} is {value}.\n", "Question: what is the code of {key}? Answer:"),
    Format("The partner of {key} is {value}.\n", "Who is the partner of {key}? It is"),
    Format("Whoever asks for {key} will get {value}.\n", "I asked for {key} and I got"),
)
"""Formats to train on."""

HELD_OUT_FORMATS = (
    Format(" {key} equals {value}\n", " {key} equals"),
    Format(" {key} is {value}\n", " {key} is"),
    Format("In the box of {key} lies {value}.\n", "Question: what lies in the box of {key}? Answer:"),
)
"""Formats for evaluations, none of them in ``TRAINED_FORMATS``."""


@dataclass(frozen=True, kw_only=True)
class Pairs(AbstractPages):
    r"""`` milk = white`` and many such lines; behind the cut `` milk =`` is asked.

    No word stands twice on a page, be it as key or as value, so that one line alone answers each question. All lines of a page are in one format.

    Facts of a page: ``facts``, ``format`` (its line), ``length`` (tokens). Facts of a question: ``place`` (which line answers it, the first being 0),
    ``distance`` (tokens from the value in that line to the end of the text).

    Args:
        facts: Lines.
        asked: Questions of a page, each for another key.
        formats: One of them is drawn for each page.
        keys: Where keys come from.
        values: Where values come from; None means where keys do.
        codec: What a token is.

    Raises:
        ValueError: A count is out of range, there is no format, or there are too few words.

    Examples:
        >>> pages = Pairs(facts=3, asked=1, formats=TRAINED_FORMATS[:1], keys=Letters(2))
        >>> page = pages.page(seed=0)
        >>> print(Bytes().decode(page.text.tolist()), end="")
         Hw = Lf
         FK = Pl
         Eh = TJ
        >>> (question,) = page.questions
        >>> [Bytes().decode(part.tolist()) for part in (question.prompt, question.answer)], question.facts
        ([' FK =', ' Pl'], {'place': 1, 'distance': 13})
    """

    facts: Count = (8, 128)
    asked: int = 1
    formats: tuple[Format, ...] = TRAINED_FORMATS
    keys: Words = field(default_factory=Letters)
    values: Words | None = None
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        least, most = check_count("Pairs.facts", self.facts)
        if not 1 <= self.asked <= least:
            raise ValueError(f"Pairs.asked must be 1 to the least number of facts, {least}, got {self.asked}.")
        if not self.formats:
            raise ValueError("Pairs.formats needs at least one format, got none.")
        for words in (self.keys, self.values or self.keys):
            if 4 * most > words.count:
                raise ValueError(
                    f"Pairs of {most} facts draw {2 * most} different words, at most half of those that there are, got {words.count}. "
                    "Cure: more words, longer ones, or fewer facts."
                )

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def page(self, seed: int) -> Page:
        dice = random.Random(f"pairs {seed}")
        form, facts = dice.choice(self.formats), draw_count(self.facts, dice)
        keys = distinct(lambda: self.keys.draw(dice), facts)
        values = distinct(lambda: (self.values or self.keys).draw(dice), facts, avoid=keys)
        lines = [self.codec.encode(form.write(*pair)) for pair in zip(keys, values, strict=True)]
        starts = list(accumulate(map(len, lines), initial=0))
        questions = []
        for place in dice.sample(range(facts), self.asked):
            key, value = keys[place], values[place]
            line, until = form.write(key, value), form.place(key, value)
            stands = starts[place] + len(ask(self.codec, line[:until], line[until:])[0])
            prompt, answer = ask(self.codec, form.question(key), f" {value}")
            questions.append(Question(torch.tensor(prompt), torch.tensor(answer), {"place": place, "distance": starts[-1] - stands}))
        text = torch.tensor([token for line in lines for token in line])
        return Page((text,), tuple(questions), {"facts": facts, "format": form.line, "length": len(text)})
