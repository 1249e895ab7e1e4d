"""What a page is: text that is read, and questions that are asked when nothing of it is in sight any more."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from ..task import Fact

Count = int | tuple[int, int]
"""A number, or the least and the most of a range from which it is drawn evenly on a logarithmic scale."""


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt and the answer that belongs behind it. It is asked alone, with a fresh attention cache.

    Args:
        prompt: What is read before the answer, without a begin-of-text token, which the reader adds [prompt]. It may be empty.
        answer: What is to be predicted [answer].
        facts: What an evaluation groups by. Those whose names begin with ``distance`` count tokens from a place of the text to the end of the text;
            ``distance`` itself from where the answer begins.

    Raises:
        ValueError: The answer is empty.

    Examples:
        >>> question = Question(torch.tensor([7, 3]), torch.tensor([5]), {"hops": 1, "distance": 12})
        >>> question.farther(100).facts
        {'hops': 1, 'distance': 112}
    """

    prompt: Int[Tensor, " prompt"]
    answer: Int[Tensor, " answer"]
    facts: Mapping[str, Fact]

    def __post_init__(self) -> None:
        if not len(self.answer):
            raise ValueError("Question.answer needs at least one token, got none.")

    def farther(self, tokens: int) -> Question:
        """The question with ``tokens`` further ones between all places of the text and its end."""
        facts = {name: fact + tokens if name.startswith("distance") and isinstance(fact, int) else fact for name, fact in self.facts.items()}
        return replace(self, facts=facts)


@dataclass(frozen=True, eq=False)
class Page:
    """Text in parts, and questions on it. The attention cache is cut before each part and before each question, so that what a part says is known
    behind its end from memory alone.

    Args:
        parts: Stretches of tokens in the order in which they are read, without begin-of-text tokens, which the reader adds [part] each.
        questions: Each is asked of the memory as it is behind the last part.
        facts: What holds for all its questions.

    Raises:
        ValueError: There is no part or no question, or a part is empty.

    Examples:
        >>> question = Question(torch.tensor([7]), torch.tensor([5]), {"distance": 3})
        >>> page = Page((torch.tensor([7, 5]), torch.tensor([1, 2])), (question,), {})
        >>> page.text.tolist(), page.text[-3:].tolist()
        ([7, 5, 1, 2], [5, 1, 2])
    """

    parts: tuple[Tensor, ...]
    questions: tuple[Question, ...]
    facts: Mapping[str, Fact]

    def __post_init__(self) -> None:
        if not self.parts or not all(map(len, self.parts)) or not self.questions:
            raise ValueError(
                f"Page needs a part, a token in each part and a question, got parts of {[len(part) for part in self.parts]} tokens and "
                f"{len(self.questions)} questions."
            )

    @property
    def text(self) -> Int[Tensor, " time"]:
        """All parts, one behind the other [time]."""
        return torch.cat(self.parts)


class AbstractPages(ABC):
    """Something to be read and then asked: a frozen dataclass of sizes, and pages that depend on those and a seed alone.

    The same seed gives the same page on every machine, in any order. What is trained on and what is held out are two sets of seeds, and of words,
    formats or works.

    Examples:
        >>> from retain.tasks import Pairs
        >>> pages: AbstractPages = Pairs(facts=3)
        >>> [len(page.parts) for page in pages.batch(range(2))]
        [1, 1]
    """

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest token that a page can hold."""

    @abstractmethod
    def page(self, seed: int) -> Page:
        """The page that belongs to ``seed``."""

    def batch(self, seeds: Iterable[int]) -> list[Page]:
        """The pages of ``seeds``, in their order."""
        return [self.page(seed) for seed in seeds]


def check_count(name: str, count: Count) -> tuple[int, int]:
    """The least and the most that a count may be.

    Raises:
        ValueError: The least is not 1 at least, or more than the most.

    Examples:
        >>> check_count("Pairs.facts", 8), check_count("Pairs.facts", (8, 128))
        ((8, 8), (8, 128))
    """
    least, most = (count, count) if isinstance(count, int) else count
    if not 1 <= least <= most:
        raise ValueError(f"{name} must be a number of 1 at least, or a range (least, most) of such, got {count}.")
    return least, most


def draw_count(count: Count, dice: random.Random) -> int:
    """A number of the range, each octave of which is as likely; the number itself where it is no range.

    Examples:
        >>> dice = random.Random(0)
        >>> [draw_count((8, 128), dice) for _ in range(6)], draw_count(5, dice)
        ([83, 65, 25, 16, 33, 24], 5)
    """
    if isinstance(count, int):
        return count
    least, most = count
    return min(most, int(least * ((most + 1) / least) ** dice.random()))


def cut(tokens: Tensor, part: int | None) -> tuple[Tensor, ...]:
    """The tokens in parts of ``part`` each, of which the last may be shorter; in one where that is None.

    Examples:
        >>> [part.tolist() for part in cut(torch.arange(5), 2)]
        [[0, 1], [2, 3], [4]]
    """
    return (tokens,) if part is None else tokens.split(part)
