"""Needle in a haystack: lines that bind keys to values, hidden in text, and one key asked for at the end."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

from .codec import Bytes, Codec, ask
from .haystack import Haystack, Hidden, Repeated, distinct, hide, made_up
from .task import AbstractTask, Sample

Kind = Literal["passkey", "number", "word"]
MARKS: dict[str, tuple[str, str]] = {
    "passkey": ("The pass key for ", " is "),
    "number": ("One of the special magic numbers for ", " is: "),
    "word": ("One of the special magic words for ", " is: "),
}
LOOKALIKES = (
    "\n{key} = {value}\n",
    "\n{key}: {value},\n",
    "\n# {key} is {value}.\n",
    "\nreturn {key}({value})\n",
    "\nThe price of {key} is {value}.\n",
    "\nSee {key}, page {value}.\n",
)
DIGITS = {"passkey": 5, "number": 7}
KEY_SYLLABLES, VALUE_SYLLABLES = 3, 4
MOST_NEEDLES = 50_000  # half the values of five digits, so that different ones are found fast


@dataclass(frozen=True, kw_only=True)
class Distractors:
    """Lines that might be taken for needles.

    Args:
        lookalikes: Lines for every thousand tokens that bind a key to a value in other words, those of ``LOOKALIKES``.
        misspelt: Lines for every thousand tokens that would be needles but for one letter of their mark, which is lost or another.

    Raises:
        ValueError: A rate is negative, or 1000 or more.

    Examples:
        >>> Distractors(lookalikes=2.0).misspelt
        0.0
    """

    lookalikes: float = 0.0
    misspelt: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in (("lookalikes", self.lookalikes), ("misspelt", self.misspelt)):
            if not 0 <= rate < 1000:
                raise ValueError(f"Distractors.{name} counts lines for every thousand tokens: at least 0, less than 1000, got {rate}.")


@dataclass(frozen=True, kw_only=True)
class Needle(AbstractTask):
    r"""``... The pass key for bakoti is 48213. ...``, then ``The pass key for bakoti is 48213``, of which the last five digits are asked.

    Needles begin at even random places that are aligned to nothing; their keys and values are drawn evenly and all differ. The question is the needle's
    own line up to its value. Source: the needle tasks of RULER (Hsieh et al. 2024), by the names of Titans' table 2: S-NIAH-PK is
    ``kind="passkey"`` in ``Repeated()``, S-NIAH-N and S-NIAH-W are ``"number"`` and ``"word"`` in a ``Book``; ``needles > 1`` is MK-NIAH. Ours: the
    made-up words (RULER takes keys and words from a list of English), values of a fixed length, a question without RULER's instructions,
    ``rebound`` and ``distractors``.

    Facts: ``kind``, ``needles``, ``rebound``, ``depth`` (where the newest needle of the key asked last begins, as a share of the text before the
    questions), ``distance`` (tokens from the value there to the value that is asked).

    Args:
        kind: What is hidden: five digits, seven digits, or a made-up word of eight letters.
        needles: Keys that are hidden. Any of them is asked for.
        rebound: How often the asked key is bound again, each time to another value. The newest is asked for.
        questions: Keys that are asked for one after the other, each question with its answer; the rebound one is the last. More than one is MQ-NIAH.
        length: Tokens of a sample, exactly, question and answer included.
        haystack: The text around.
        distractors: Further lines, with keys that are none of the needles'.
        codec: What a token is.

    Raises:
        ValueError: The kind is unknown, a count is out of range, or the length has no room for the lines.

    Examples:
        >>> sample = Needle(length=100).sample(seed=0)
        >>> print(Bytes().decode(sample.tokens.tolist()))
        low. Here we go. Th
        The pass key for vogato is 36720.
        ere and back
        The pass key for vogato is 36720
        >>> Bytes().decode(sample.tokens[sample.asked].tolist()), sample.facts["distance"]
        ('36720', 48)
    """

    kind: Kind = "passkey"
    needles: int = 1
    rebound: int = 0
    questions: int = 1
    length: int = 1024
    haystack: Haystack = field(default_factory=Repeated)
    distractors: Distractors = field(default_factory=Distractors)
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        if self.kind not in MARKS:
            raise ValueError(f"Needle.kind must be one of {', '.join(MARKS)}, got {self.kind!r}.")
        if self.needles < 1 or self.rebound < 0 or self.needles + self.rebound > MOST_NEEDLES:
            raise ValueError(
                f"Needle needs needles >= 1 and rebound >= 0, together {MOST_NEEDLES} at most, got needles={self.needles} and rebound={self.rebound}."
            )
        if not 1 <= self.questions <= self.needles:
            raise ValueError(f"Needle asks for keys that are hidden, each once: questions is 1 to needles={self.needles}, got {self.questions}.")
        needed = self._draw(random.Random(0)).size
        if needed > self.length:
            raise ValueError(
                f"Needle.length={self.length} has no room for lines, question and answer of {needed} tokens. Cure: length={needed} or more."
            )

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        drawn, hidden = self.hidden(seed)
        pieces = [(part, asked) for question, answer in drawn.asked for part, asked in ((question, False), (answer, True))]
        tail = torch.tensor([token for part, _ in pieces for token in part], dtype=torch.long)
        start, first = hidden.starts[drawn.places[-1]], self.length - len(drawn.asked[-1][1])
        asked = torch.zeros(self.length, dtype=torch.bool)
        asked[len(hidden.tokens) :] = torch.tensor([asked for part, asked in pieces for _ in part])
        return Sample(
            torch.cat([hidden.tokens, tail]),
            asked,
            {
                "kind": self.kind,
                "needles": self.needles,
                "rebound": self.rebound,
                "depth": start / len(hidden.tokens),
                "distance": first - start - drawn.offsets[-1],
            },
        )

    def hidden(self, seed: int) -> tuple[Lines, Hidden]:
        """What is written into the hay and what is asked, and the hay with it; what is asked stands behind it in ``length`` tokens."""
        dice = random.Random(f"needle {seed}")
        drawn = self._draw(dice)
        tail = sum(len(question) + len(answer) for question, answer in drawn.asked)
        return drawn, hide(self.haystack, drawn.lines, self.length - tail, self.codec, dice)

    def _draw(self, dice: random.Random) -> Lines:
        keys = distinct(lambda: made_up(KEY_SYLLABLES, dice), self.needles)
        values = distinct(lambda: self._value(dice), self.needles + self.rebound)
        bound = [*keys, *[keys[0]] * self.rebound]
        dice.shuffle(bound)
        texts = [(self._mark(key), f"{value}.\n") for key, value in zip(bound, values, strict=True)]
        newest = max(i for i, key in enumerate(bound) if key == keys[0])
        places = [*(bound.index(key) for key in keys[1 : self.questions]), newest]
        asked = [ask(self.codec, texts[place][0], values[place]) for place in places]
        offsets = [len(ask(self.codec, *texts[place])[0]) for place in places]
        lines = [self.codec.encode(prompt + rest) for prompt, rest in texts]
        rates = ((self._lookalike, self.distractors.lookalikes), (self._misspelt, self.distractors.misspelt))
        others = [line for line, rate in rates for _ in range(round(rate * self.length / 1000))]
        for other in others:
            before = dice.randrange(len(lines) + 1)
            places = [place + (before <= place) for place in places]
            (key,) = distinct(lambda: made_up(KEY_SYLLABLES, dice), 1, avoid=keys)
            lines.insert(before, self.codec.encode(other(key, dice)))
        return Lines(lines, places, offsets, asked)

    def _mark(self, key: str) -> str:
        before, behind = MARKS[self.kind]
        return f"\n{before}{key}{behind}"

    def _value(self, dice: random.Random) -> str:
        if self.kind == "word":
            return made_up(VALUE_SYLLABLES, dice)
        return "".join(dice.choices(string.digits, k=DIGITS[self.kind]))

    def _lookalike(self, key: str, dice: random.Random) -> str:
        return dice.choice(LOOKALIKES).format(key=key, value=self._value(dice))

    def _misspelt(self, key: str, dice: random.Random) -> str:
        before, behind = MARKS[self.kind]
        place = dice.randrange(len(before) - 1)
        other = dice.choice(["", *(letter for letter in string.ascii_lowercase if letter != before[place])])
        return f"\n{before[:place]}{other}{before[place + 1 :]}{key}{behind}{self._value(dice)}.\n"


class Lines(NamedTuple):
    """What is written into the hay and what is asked: questions with answers, each with the line that answers it, and how many tokens behind the start
    of that line its value stands.
    """

    lines: list[list[int]]
    places: list[int]
    offsets: list[int]
    asked: list[tuple[list[int], list[int]]]

    @property
    def size(self) -> int:
        return sum(map(len, self.lines)) + sum(len(question) + len(answer) for question, answer in self.asked)
