"""How often a model with memories answers right about pages that it has read, beside what it must be held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedModel

from retain.retrofit import FrozenPrefix
from retain.tasks import AbstractPages, Codec
from retain.tasks.task import Fact

from ..grouping import Group, grouped
from ..recall import USUAL_FACTS, Watch
from ..result import About, AbstractResult, about, table
from ..share import Share
from .readings import CONTROLS, MEMORY, READINGS, Reply, Told, check_whole, replies

NOT_ASKED = Share(0, 0)
MEASURES = ("exact", "tokens", "characters")


@dataclass(frozen=True, kw_only=True)
class PageOutcome:
    """What became of one question in one reading.

    Args:
        reading: ``"memory"`` or the name of a control.
        seed: Of the page.
        number: Which question of the page it is.
        facts: Of the page and of the question.
        tokens: Tokens of the answer that are the likeliest ones, given the true ones before them; of none where the reading does not apply.
        characters: Characters of the answer that stand in those tokens where they should; of none where nobody can tell what tokens spell.

    Examples:
        >>> PageOutcome(reading="memory", seed=0, number=0, facts={}, tokens=Share(2, 3), characters=Share(5, 7)).exact
        Share(right=0, asked=1)
    """

    reading: str
    seed: int
    number: int
    facts: Mapping[str, Fact]
    tokens: Share
    characters: Share

    @property
    def exact(self) -> Share:
        """One of one if greedy decoding gives the whole answer."""
        return Share(int(self.tokens.right == self.tokens.asked), 1) if self.tokens.asked else NOT_ASKED


class PageRow(NamedTuple):
    """A group of questions in one reading.

    Examples:
        >>> PageRow("31", 31.0, "memory", 1, Share(1, 1), Share(2, 2), Share(5, 5)).exact.value
        1.0
    """

    group: str
    middle: float | None
    """Where the group lies on an axis; None if it is a word."""
    reading: str
    questions: int
    """How many there are in the group, whether or not the reading applies to them."""
    exact: Share
    """Answers that greedy decoding gives from the first token to the last."""
    tokens: Share
    characters: Share


@dataclass(frozen=True, kw_only=True)
class PageRecall(AbstractResult):
    """How often a model is right about pages that only its memories have kept, question by question, in five readings.

    The controls cannot be left out: ``"base, full context"``, ``"base, cut context"``, ``"writes off"`` and ``"memory of another document"``.

    Args:
        title: Of its table.
        outcomes: Of each question in each reading.
        by: The fact that tables are grouped by; None for one group.
        about: What the numbers must be read with.

    Raises:
        ValueError: A reading has two outcomes of one question.

    Examples:
        >>> readings = {"memory": 2, "base, full context": 1, "base, cut context": 0, "writes off": 0, "memory of another document": 0}
        >>> outcomes = [
        ...     PageOutcome(reading=name, seed=0, number=0, facts={"hops": 1}, tokens=Share(right, 2), characters=Share(0, 0))
        ...     for name, right in readings.items()
        ... ]
        >>> result = PageRecall(title="Pairs", outcomes=tuple(outcomes), by="hops", about={})
        >>> result.overall().exact, result.overall("writes off").exact
        (Share(right=1, asked=1), Share(right=0, asked=1))
        >>> PageRecall(title="Pairs", outcomes=tuple(outcomes[:2]), by="hops", about={}).markdown()
        Traceback (most recent call last):
        ValueError: 'Pairs' is not whole: it lacks the rows of 'base, cut context', 'writes off', 'memory of another document'.
    """

    kind: ClassVar[str] = "page recall"
    controls: ClassVar[tuple[str, ...]] = CONTROLS

    title: str
    outcomes: tuple[PageOutcome, ...]
    by: str | None
    about: About

    def __post_init__(self) -> None:
        keys = [(outcome.reading, outcome.seed, outcome.number) for outcome in self.outcomes]
        if len(set(keys)) < len(keys):
            again = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise ValueError(f"a reading has one outcome of each question; {again[0]!r} has several of question {again[2]} of seed {again[1]}.")

    def rows(self, by: str | None = None, edges: Sequence[float] | None = None) -> tuple[PageRow, ...]:
        """Group by group, the five readings of each.

        Args:
            by: The fact to group by; None takes the result's own.
            edges: Where groups of numbers begin and end; None chooses: values, or octaves where they are many and far apart.

        Raises:
            ValueError: A question lacks the fact, or the edges do not fit it.
        """
        own, fact = [outcome for outcome in self.outcomes if outcome.reading == MEMORY], by or self.by
        if fact is None:
            groups = [Group("all", None, tuple(range(len(own))))]
        else:
            missing = next((outcome for outcome in own if fact not in outcome.facts), None)
            if missing is not None:
                raise ValueError(f"the question of seed {missing.seed} has no fact {fact!r}; it has {', '.join(missing.facts) or 'none'}.")
            groups = grouped([outcome.facts[fact] for outcome in own], edges)
        found = {(outcome.reading, outcome.seed, outcome.number): outcome for outcome in self.outcomes}
        rows = []
        for group in groups:
            for reading in READINGS:
                keys = [(reading, own[i].seed, own[i].number) for i in group.members]
                rows.append(_row(group, reading, [found[key] for key in keys if key in found]))
        return tuple(rows)

    def overall(self, reading: str = MEMORY) -> PageRow:
        """All questions of one reading together.

        Raises:
            ValueError: There is no such reading.
        """
        if reading not in READINGS:
            raise ValueError(f"there is no reading {reading!r}; there are {', '.join(map(repr, READINGS))}.")
        return _row(Group("all", None, ()), reading, [outcome for outcome in self.outcomes if outcome.reading == reading])

    def check(self) -> None:
        """Refuse to be shown without controls.

        Raises:
            ValueError: A reading is not there, or lacks a question that another has.
        """
        check_whole(self.title, [(one.reading, one.seed, one.number) for one in self.outcomes], of="questions")

    def markdown(self, by: str | None = None, edges: Sequence[float] | None = None) -> str:
        """The table, a column for each reading. A dash stands where a reading does not apply; where it applies to some, their number is told.

        Raises:
            ValueError: The controls are not there, or the grouping does not fit.
        """
        self.check()
        rows, lines = self.rows(by, edges), []
        for first in range(0, len(rows), len(READINGS)):
            some = rows[first : first + len(READINGS)]
            for measure in MEASURES if any(row.characters.asked for row in rows) else MEASURES[:2]:
                head = [_plain(some[0].group), f"{some[0].questions:,}"] if measure == "exact" else ["", ""]
                lines.append([*head, measure, *(_cell(row, getattr(row, measure)) for row in some)])
        return f"**{self.title}**\n\n" + table([by or self.by or "pages", "questions", "right", *READINGS], lines)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> PageRecall:
        outcomes = (PageOutcome(**{**o, "tokens": Share(**o["tokens"]), "characters": Share(**o["characters"])}) for o in data["outcomes"])
        return cls(**{**data, "outcomes": tuple(outcomes)})


def page_recall(
    model: PreTrainedModel,
    pages: AbstractPages,
    seeds: Sequence[int],
    *,
    start: Sequence[int],
    codec: Codec | None = None,
    by: str | None = None,
    batch: int = 8,
    full_context: int | None = None,
    prefix: FrozenPrefix | None = None,
    progress: Watch | None = None,
    title: str | None = None,
) -> PageRecall:
    """Have a model read pages and ask about them when nothing of them is in sight, beside four controls on the same questions.

    ``memory``: each part of a page is read with an attention cache of its own, and each question is asked with a fresh one. ``writes off``: the same, but
    nothing is ever written. ``memory of another document``: the memory is that of the next page of the batch. ``base, full context``: without memories,
    page and question stand in one context. ``base, cut context``: without memories, the question stands alone.

    An answer is exact if each of its tokens is the likeliest one given the true ones before it, which is so exactly if greedy decoding gives it.

    Args:
        model: A model with memories.
        pages: What it reads and is asked.
        seeds: Of the pages, two at least; which are neighbours decides whose memory is the other document's.
        start: The tokens that are put before each part and each question.
        codec: What tokens spell, to count characters as well: those of each token that agree with the true one's, place by place, white space not counted.
        by: The fact that tables are grouped by; None is ``distance``, else ``length``, if all questions have it.
        batch: Pages that are read side by side, two at least; one more where one would be left over.
        full_context: The most tokens that the base reads in one context, 0 for none; what the model has positions for unless given.
        prefix: What keeps the work of the frozen layers, if the pages are read by several models of one base.
        progress: Is told how far it is.
        title: Of the table; the name of the pages unless given.

    Raises:
        ValueError: The model has no memories, there are not two pages, a number is out of range, the pages do not fit the model, or
            their questions lack the fact.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> result = page_recall(model, Pairs(facts=3, asked=2, keys=Letters(2)), range(4), start=[256], by="place")
        >>> result.overall("base, full context").exact.asked, [row.group for row in result.rows()[::5]]
        (8, ['0', '1', '2'])
    """
    first = pages.page(seeds[0]) if seeds else None
    if by is not None and first is not None and any(by not in {**first.facts, **question.facts} for question in first.questions):
        known = {**first.facts, **first.questions[0].facts}
        raise ValueError(f"questions of {type(pages).__name__} have no fact {by!r}; they have {', '.join(known) or 'none'}.")
    found = replies(model, pages, seeds, start=start, batch=batch, full_context=full_context, prefix=prefix, progress=progress)
    outcomes = tuple(_outcome(reply, name, codec) for name in READINGS for reply in found)
    own = next((fact for fact in USUAL_FACTS if all(fact in reply.facts for reply in found)), None)
    return PageRecall(title=type(pages).__name__ if title is None else title, outcomes=outcomes, by=own if by is None else by, about=about(model))


def _outcome(reply: Reply, reading: str, codec: Codec | None) -> PageOutcome:
    told, wanted = reply.told[reading], reply.question.answer
    tokens = NOT_ASKED if told is None else Share(int((told.said == wanted).sum()), len(wanted))
    characters = NOT_ASKED if told is None or codec is None else _characters(told, wanted.tolist(), codec)
    return PageOutcome(reading=reading, seed=reply.seed, number=reply.number, facts=reply.facts, tokens=tokens, characters=characters)


def _characters(told: Told, wanted: list[int], codec: Codec) -> Share:
    right = asked = 0
    for said, true in zip(told.said.tolist(), wanted, strict=True):
        letters = codec.decode([true])
        spelt = letters if said == true else codec.decode([said]).replace("\ufffd", " ")  # parts of characters say nothing
        asked += sum(not letter.isspace() for letter in letters)
        right += sum(letter == other and not letter.isspace() for letter, other in zip(letters, spelt, strict=False))
    return Share(right, asked)


def _row(group: Group, reading: str, members: Sequence[PageOutcome]) -> PageRow:
    exact, tokens, characters = (
        sum(shares, NOT_ASKED) for shares in ([o.exact for o in members], [o.tokens for o in members], [o.characters for o in members])
    )
    return PageRow(group.label, group.middle, reading, len(members), exact, tokens, characters)


def _cell(row: PageRow, share: Share) -> str:
    if not share.asked:
        return "-"
    return str(share) if row.exact.asked == row.questions else f"{share} of {row.exact.asked:,}"


def _plain(words: str) -> str:
    """Words of a fact, such as the line of a format, as they may stand in a cell."""
    return words.strip().replace("\n", " ").replace("|", "\\|")
