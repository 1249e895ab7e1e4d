"""How well a model with memories foretells the text behind a cut, by the place behind it, beside what it must be held against."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedModel

from retain.retrofit import FrozenPrefix
from retain.tasks import AbstractPages

from ..recall import Watch
from ..result import About, AbstractResult, about, table
from .readings import CONTROLS, CUT, MEMORY, READINGS, Told, check_whole, replies


class Mean(NamedTuple):
    """The mean of numbers of independent texts, and its standard error.

    Examples:
        >>> Mean.of([1.0, 2.0, 3.0]), str(Mean.of([1.0, 2.0, 3.0]))
        (Mean(value=2.0, error=0.5773502691896258, texts=3), '2.000 ± 0.577')
    """

    value: float
    error: float
    """Not a number where there are not two texts, or one of the numbers is none."""
    texts: int

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Mean:
        """That of these numbers."""
        each = list(numbers)
        error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 and all(map(math.isfinite, each)) else math.nan
        return cls(statistics.fmean(each) if each else math.nan, error, len(each))

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}" if self.texts else "-"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What the text behind one cut cost in one reading.

    Args:
        reading: ``"memory"`` or the name of a control.
        seed: Of the page.
        number: Which question of the page the text answers.
        tokens: How many were foretold.
        nats: What they cost, by stretches of places; none where the reading does not apply.

    Examples:
        >>> Stretch(reading="memory", seed=0, number=0, tokens=3, nats=(4.0, 3.0, 2.0)).mean
        3.0
    """

    reading: str
    seed: int
    number: int
    tokens: int
    nats: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Nats a token."""
        return sum(self.nats) / self.tokens


@dataclass(frozen=True, kw_only=True)
class AfterCut(AbstractResult):
    """Nats that tokens behind a cut cost, by their place behind it, in five readings.

    The controls cannot be left out. A memory is worth what it saves of the cut base's nats (``saved``); that of the memory of another document is what
    it saves by knowing such texts at all.

    Args:
        title: Of its table.
        edges: Stretch i holds the places from ``edges[i]`` to before ``edges[i + 1]``; the first token behind the cut is at place 0.
        stretches: Of each text in each reading.
        about: What the numbers must be read with.

    Examples:
        >>> costs = {"base, full context": 1.0, "base, cut context": 3.0, "memory": 2.0, "writes off": 3.0, "memory of another document": 3.5}
        >>> stretches = [Stretch(reading=name, seed=i, number=0, tokens=2, nats=(n + i, n)) for name, n in costs.items() for i in (0, 1)]
        >>> result = AfterCut(title="Code", edges=(0, 1, 2), stretches=tuple(stretches), about={})
        >>> result.at("memory", 0), str(result.saved("memory"))
        (2.5, '1.000 ± 0.000')
        >>> print(result)
        **Code**: nats a token
        <BLANKLINE>
        | place behind the cut | base, full context | base, cut context | memory | writes off | memory of another document |
        | --- | --- | --- | --- | --- | --- |
        | 0 | 1.500 | 3.500 | 2.500 | 3.500 | 4.000 |
        | 1 | 1.000 | 3.000 | 2.000 | 3.000 | 3.500 |
        | all | 1.250 ± 0.250 | 3.250 ± 0.250 | 2.250 ± 0.250 | 3.250 ± 0.250 | 3.750 ± 0.250 |
        | saved of the cut base's | 2.000 ± 0.000 |  | 1.000 ± 0.000 | 0.000 ± 0.000 | -0.500 ± 0.000 |
        | perplexity | 3.49 | 25.8 | 9.49 | 25.8 | 42.5 |
        | texts | 2 | 2 | 2 | 2 | 2 |
    """

    kind: ClassVar[str] = "after a cut"
    controls: ClassVar[tuple[str, ...]] = CONTROLS

    title: str
    edges: tuple[int, ...]
    stretches: tuple[Stretch, ...]
    about: About

    def at(self, reading: str, number: int) -> float:
        """Mean nats a token at the places from ``edges[number]`` to before ``edges[number + 1]``; not a number where there are none."""
        low, high = self.edges[number : number + 2]
        members = self._of(reading)
        count = sum(max(0, min(high, one.tokens) - low) for one in members)
        return sum(one.nats[number] for one in members) / count if count else math.nan

    def mean(self, reading: str = MEMORY) -> Mean:
        """Nats a token over all places, each text counted once."""
        return Mean.of(one.mean for one in self._of(reading))

    def saved(self, reading: str = MEMORY, of: str = CUT) -> Mean:
        """How many nats a token less a reading costs than another, text by text, where both apply."""
        other = {(one.seed, one.number): one.mean for one in self._of(of)}
        pairs = [(other[one.seed, one.number], one.mean) for one in self._of(reading) if (one.seed, one.number) in other]
        return Mean.of(dear - cheap for dear, cheap in pairs)

    def perplexity(self, reading: str = MEMORY) -> float:
        """e to the power of the mean nats a token."""
        mean = self.mean(reading).value
        return math.inf if mean >= 700 else math.exp(mean)

    def check(self) -> None:
        """Refuse to be shown without controls.

        Raises:
            ValueError: A reading is not there, or lacks a text that another has.
        """
        check_whole(self.title, [(one.reading, one.seed, one.number) for one in self.stretches], of="texts")

    def markdown(self) -> str:
        """The table, a column for each reading. A dash stands where a reading does not apply.

        Raises:
            ValueError: The controls are not there.
        """
        self.check()
        lines = []
        for number, (low, high) in enumerate(pairwise(self.edges)):
            costs = [self.at(name, number) for name in READINGS]
            lines.append([span(low, high), *("-" if math.isnan(cost) else f"{cost:.3f}" for cost in costs)])
        lines += [
            ["all", *(str(self.mean(name)) for name in READINGS)],
            ["saved of the cut base's", *("" if name == CUT else str(self.saved(name)) for name in READINGS)],
            ["perplexity", *(f"{self.perplexity(name):.3g}" if self._of(name) else "-" for name in READINGS)],
            ["texts", *(f"{len(self._of(name)):,}" for name in READINGS)],
        ]
        return f"**{self.title}**: nats a token\n\n" + table(["place behind the cut", *READINGS], lines)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> AfterCut:
        stretches = tuple(Stretch(**{**one, "nats": tuple(one["nats"])}) for one in data["stretches"])
        return cls(**{**data, "edges": tuple(data["edges"]), "stretches": stretches})

    def _of(self, reading: str) -> list[Stretch]:
        return [one for one in self.stretches if one.reading == reading and one.nats]


def after_cut(
    model: PreTrainedModel,
    pages: AbstractPages,
    seeds: Sequence[int],
    *,
    start: Sequence[int],
    batch: int = 8,
    full_context: int | None = None,
    prefix: FrozenPrefix | None = None,
    progress: Watch | None = None,
    title: str | None = None,
) -> AfterCut:
    """How surprised a model is by how pages go on, by octaves of the place behind the cut, beside four controls on the same tokens.

    The five readings are those of ``page_recall``. What is foretold are the answers of the pages, each token from the true ones before it; pages without
    prompts whose answer is how their text goes on make it the perplexity of text.

    Args:
        model: A model with memories.
        pages: What it reads, and what comes then.
        seeds: Of the pages, two at least; which are neighbours decides whose memory is the other document's.
        start: The tokens that are put before each part and each answer.
        batch: Pages that are read side by side, two at least; one more where one would be left over.
        full_context: The most tokens that the base reads in one context, 0 for none; what the model has positions for unless given.
        prefix: What keeps the work of the frozen layers, if the pages are read by several models of one base.
        progress: Is told how far it is.
        title: Of the table; the name of the pages unless given.

    Raises:
        ValueError: The model has no memories, there are not two pages, a number is out of range, or the pages do not fit the model.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> result = after_cut(model, Pairs(facts=3, keys=Letters(4)), range(4), start=[256])
        >>> result.edges, result.mean().texts
        ((0, 1, 2, 4, 8), 4)
    """
    found = replies(model, pages, seeds, start=start, batch=batch, full_context=full_context, prefix=prefix, progress=progress)
    edges = octaves(max(len(reply.question.answer) for reply in found))
    stretches = [
        Stretch(reading=name, seed=reply.seed, number=reply.number, tokens=len(reply.question.answer), nats=_nats(reply.told[name], edges))
        for name in READINGS
        for reply in found
    ]
    return AfterCut(title=type(pages).__name__ if title is None else title, edges=edges, stretches=tuple(stretches), about=about(model))


def octaves(places: int) -> tuple[int, ...]:
    """Where stretches of places begin and end, each of which is twice as far as the one before it.

    Examples:
        >>> octaves(1), octaves(5)
        ((0, 1), (0, 1, 2, 4, 8))
    """
    edges = [0, 1]
    while edges[-1] < places:
        edges.append(2 * edges[-1])
    return tuple(edges)


def span(low: int, high: int) -> str:
    """Places from ``low`` to before ``high``, as a table says it.

    Examples:
        >>> span(1, 2), span(4, 8)
        ('1', '4 to 7')
    """
    return f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"


def _nats(told: Told | None, edges: tuple[int, ...]) -> tuple[float, ...]:
    return () if told is None else tuple(float(told.loss[low:high].double().sum()) for low, high in pairwise(edges))
