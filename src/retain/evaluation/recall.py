"""How often a model answers right, with all it has and without what a control takes away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from retain.tasks import AbstractTask, Batch, Sample
from retain.tasks.task import Fact

from .control import CONTROLS, AbstractControl, AbstractCut, check_names
from .grouping import Group, grouped
from .question import question_start, right_answers
from .result import MODEL, About, AbstractResult, about, check_controls, table, titled
from .share import Share
from .stream import Stream, at_rest

CHANCE = "chance"
USUAL_FACTS = ("distance", "length")
Watch = Callable[[float, str], None]
"""Is told how far an evaluation is: a share from 0 to 1, and what is being done."""
Measure = Literal["teacher", "exact", "whole"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one sample in one reading.

    Args:
        reading: ``"model"``, or the name of a control.
        seed: Of the sample.
        facts: Of the sample.
        tokens: Asked tokens that are right, given the true ones before them.
        answers: Answers that are right from the first token to the last.

    Examples:
        >>> Outcome(reading="model", seed=0, facts={"distance": 8}, tokens=Share(4, 5), answers=Share(0, 1)).whole
        Share(right=0, asked=1)
    """

    reading: str
    seed: int
    facts: Mapping[str, Fact]
    tokens: Share
    answers: Share

    @property
    def whole(self) -> Share:
        """One of one if every answer of the sample is right."""
        return Share(int(self.answers.right == self.answers.asked), 1) if self.answers.asked else Share(0, 0)


class RecallRow(NamedTuple):
    """A row of the table: one group of samples in one reading.

    Examples:
        >>> RecallRow("8", 8.0, "model", 1, Share(4, 5), Share(0, 1), Share(0, 1)).teacher.value
        0.8
    """

    group: str
    middle: float | None
    """Where the group lies on an axis; None if it is a word."""
    reading: str
    samples: int
    teacher: Share
    """Asked tokens that are the likeliest ones, given the true ones before them."""
    exact: Share
    """Answers that greedy decoding gives, from the first token to the last."""
    whole: Share
    """Samples of which every answer is exact."""


@dataclass(frozen=True, kw_only=True)
class Recall(AbstractResult):
    """How often a model is right on a task, sample by sample, beside its controls.

    Args:
        title: Of its tables.
        controls: Names of the controls.
        outcomes: Of each sample in each reading.
        by: The fact that tables are grouped by; None for one group.
        chance: What guessing comes to, if the task says it.
        about: What the numbers must be read with.

    Raises:
        ValueError: A reading has two outcomes of one seed.

    Examples:
        >>> outcomes = [Outcome(reading=name, seed=0, facts={}, tokens=Share(n, 4), answers=Share(n, 4)) for name, n in (("model", 4), ("writes off", 0))]
        >>> print(Recall(title="MQAR", controls=("writes off",), outcomes=tuple(outcomes), by=None, chance=0.25, about={}))
        **MQAR**
        <BLANKLINE>
        | samples | reading | count | teacher | exact | whole |
        | --- | --- | --- | --- | --- | --- |
        | all | model | 1 | 1.00 (0.51 - 1.00) | 1.00 (0.51 - 1.00) | 1.00 (0.21 - 1.00) |
        |  | writes off | 1 | 0.00 (0.00 - 0.49) | 0.00 (0.00 - 0.49) | 0.00 (0.00 - 0.79) |
        | any | chance |  | 0.25 |  |  |
    """

    kind: ClassVar[str] = "recall"

    title: str
    controls: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    by: str | None
    chance: float | None
    about: About

    def __post_init__(self) -> None:
        again = [key for key, count in Counter((outcome.reading, outcome.seed) for outcome in self.outcomes).items() if count > 1]
        if again:
            raise ValueError(
                f"a reading has one outcome of each seed; {again[0][0]!r} has several of seed {again[0][1]}. To join results, use other seeds."
            )

    def rows(self, by: str | None = None, edges: Sequence[float] | None = None) -> tuple[RecallRow, ...]:
        """The rows of the table: group by group, the model first in each.

        Args:
            by: The fact to group by; None takes the result's own.
            edges: Where groups of numbers begin and end; None chooses.

        Raises:
            ValueError: A sample lacks the fact, or the edges do not fit it.
        """
        own = [outcome for outcome in self.outcomes if outcome.reading == MODEL]
        fact = self.by if by is None else by
        if fact is None:
            groups = [Group("all", None, tuple(range(len(own))))]
        else:
            missing = next((outcome for outcome in own if fact not in outcome.facts), None)
            if missing is not None:
                raise ValueError(f"the sample of seed {missing.seed} has no fact {fact!r}; it has {', '.join(missing.facts) or 'none'}.")
            groups = grouped([outcome.facts[fact] for outcome in own], edges)
        by_seed = {(outcome.reading, outcome.seed): outcome for outcome in self.outcomes}
        rows = []
        for group in groups:
            for reading in (MODEL, *self.controls):
                members = [by_seed[reading, own[i].seed] for i in group.members if (reading, own[i].seed) in by_seed]
                shares = (sum((part(o) for o in members), Share(0, 0)) for part in (lambda o: o.tokens, lambda o: o.answers, lambda o: o.whole))
                rows.append(RecallRow(group.label, group.middle, reading, sum(o.tokens.asked > 0 for o in members), *shares))
        return tuple(rows)

    def overall(self, reading: str = MODEL) -> RecallRow:
        """All samples of one reading together.

        Raises:
            ValueError: There is no such reading.
        """
        if reading not in (MODEL, *self.controls):
            raise ValueError(f"there is no reading {reading!r}; there are {', '.join(map(repr, (MODEL, *self.controls)))}.")
        members = [outcome for outcome in self.outcomes if outcome.reading == reading]
        tokens, answers, whole = (sum(shares, Share(0, 0)) for shares in zip(*((o.tokens, o.answers, o.whole) for o in members), strict=True))
        return RecallRow("all", None, reading, len(members), tokens, answers, whole)

    def markdown(self, by: str | None = None, edges: Sequence[float] | None = None) -> str:
        """The table, with the controls beside the model.

        Raises:
            ValueError: The controls are not there and the title does not say so, or the grouping does not fit.
        """
        self.check()
        fact, last, lines = by or self.by, "", []
        for row in self.rows(by, edges):
            shown = "" if row.group == last else row.group
            lines.append([shown, row.reading, f"{row.samples:,}", str(row.teacher), str(row.exact), str(row.whole)])
            last = row.group
        if self.chance is not None:
            lines.append(["any", CHANCE, "", f"{self.chance:.2g}", "", ""])
        return f"**{self.title}**\n\n" + table([fact or "samples", "reading", "count", "teacher", "exact", "whole"], lines)

    def check(self) -> None:
        """Refuse to be shown without controls.

        Raises:
            ValueError: The controls are not there and the title does not say so.
        """
        check_controls(self.title, self.controls, [outcome.reading for outcome in self.outcomes])

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Recall:
        outcomes = (
            Outcome(**{**outcome, "tokens": Share(**outcome["tokens"]), "answers": Share(**outcome["answers"])}) for outcome in data["outcomes"]
        )
        return cls(**{**data, "controls": tuple(data["controls"]), "outcomes": tuple(outcomes)})


def recall(
    model: nn.Module,
    task: AbstractTask,
    seeds: Iterable[int],
    *,
    controls: Sequence[AbstractControl] = CONTROLS,
    by: str | None = None,
    question: Callable[[Sample], int] | None = None,
    batch: int = 1,
    chunk: int = 4096,
    progress: Watch | None = None,
    title: str | None = None,
) -> Recall:
    """How often a causal language model is right on a task, with all it has and without what each control takes away.

    A sample is streamed through the model's cache in chunks, so the memory that it takes does not grow with the sample, however long it is; scores
    are only computed for what is asked. One pass checks answers in three ways. ``teacher``: the likeliest token at each asked place, given the true
    ones before it. ``exact``: all asked tokens of an answer; those are likeliest one after the other exactly if greedy decoding gives the answer, so
    nothing need be generated. An answer is a run of asked tokens; where they are scattered, or are labels, each is an answer of its own, and the two
    are the same. ``whole``: all answers of a sample.

    Controls that cut are applied once to each sample, just before its question. Where the question begins with the sample there is nothing to cut, and
    they do not apply.

    Args:
        model: The model, such as ``RetainForCausalLM``, or one of transformers' if ``controls=()``.
        task: What it is asked.
        seeds: Of the samples.
        controls: What is taken from it, row by row.
        by: The fact that tables are grouped by; None is ``distance``, else ``length``, if all samples have it.
        question: Where the question of a sample begins; None is ``question_start``, which takes the last line of a text.
        batch: Samples that are read side by side.
        chunk: Tokens that are read at once.
        progress: Is told how far it is.
        title: Of the table; the task's name unless given.

    Raises:
        ValueError: There are no seeds, a number is not positive, the task has more tokens than the model, or a control does not fit the model.

    Examples:
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> from retain.tasks import MQAR
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, window=4))
        >>> result = recall(model, MQAR(pairs=2, vocabulary=8, length=16, gap=4), range(3))
        >>> [row.reading for row in result.rows(by="pairs")], result.overall().exact.asked
        (['model', 'writes off', 'memory reset', 'window cut'], 6)
    """
    seeds, controls = list(seeds), tuple(controls)
    names = check_names(controls, taken=(MODEL, CHANCE))
    known = getattr(getattr(model, "config", None), "vocab_size", None)
    if known is not None and task.vocab_size > known:
        raise ValueError(f"the task has {task.vocab_size} tokens and the model knows {known}; choose a task of fewer, or a model of more.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"recall needs seeds, at least one and each once, got {seeds[:10]}.")
    if min(batch, chunk) < 1:
        raise ValueError(f"recall needs batch >= 1 and chunk >= 1, got batch={batch} and chunk={chunk}.")
    begin = partial(question_start, codec=getattr(task, "codec", None)) if question is None else question
    outcomes: list[Outcome] = []
    with at_rest(model):
        for first in range(0, len(seeds), batch):
            some = seeds[first : first + batch]
            samples = [task.sample(seed) for seed in some]
            cuts = torch.tensor([begin(sample) for sample in samples])

            def tick(share: float, first: int = first, count: int = len(some)) -> None:
                if progress is not None:
                    progress((first + share * count) / len(seeds), f"sample {first + 1} of {len(seeds)}")

            hits = _hits(model, Batch.of(samples), cuts, controls, chunk, tick)
            for name in (MODEL, *names):
                hit = hits.get(name)
                outcomes += (
                    _outcome(name, seed, sample, None if hit is None or not applies else hit[row])
                    for row, (seed, sample, applies) in enumerate(zip(some, samples, _applies(name, controls, cuts), strict=True))
                )
    own = next((fact for fact in USUAL_FACTS if all(fact in outcome.facts for outcome in outcomes)), None)
    chance = getattr(task, "chance", None)
    return Recall(
        title=titled(type(task).__name__ if title is None else title, controls),
        controls=names,
        outcomes=tuple(outcomes),
        by=own if by is None else by,
        chance=None if chance is None else float(chance),
        about=about(model),
    )


def _applies(name: str, controls: tuple[AbstractControl, ...], cuts: Tensor) -> list[bool]:
    """Of which rows something is taken before their question, or all along."""
    cutting = any(control.name == name and control.writes for control in controls)
    return [not cutting or cut > 0 for cut in cuts.tolist()]


def _hits(
    model: nn.Module, batch: Batch, cuts: Tensor, controls: tuple[AbstractControl, ...], chunk: int, tick: Callable[[float], None]
) -> dict[str, Tensor]:
    """For each reading, where [batch, time] the likeliest token is the answer. Padding lies behind all rows, where no causal model looks back from."""
    time = int(batch.asked.any(0).nonzero().max())  # behind the last asked token nothing is asked
    streams = {MODEL: Stream(model)} | {control.name: Stream(model, write=False) for control in controls if not control.writes}
    hits: dict[str, Tensor] = {name: torch.zeros_like(batch.asked) for name in streams}
    for start, stop in pairwise(sorted({*range(0, time, chunk), *(cut for cut in cuts.tolist() if cut < time), time})):
        here = cuts == start
        if start and bool(here.any()):
            for control in controls:
                if control.name not in streams:
                    streams[control.name], hits[control.name] = streams[MODEL].fork(), hits[MODEL].clone()
                if isinstance(control, AbstractCut):
                    streams[control.name].cut(control, here)
        wanted = batch.asked[:, start + 1 : stop + 1].any(0).nonzero().flatten()
        for name, stream in streams.items():
            scores = stream.read(batch.tokens[:, start:stop], wanted)
            places = start + 1 + wanted
            hits[name][:, places] = scores.argmax(-1).cpu() == batch.answers[:, places]
        tick(stop / time)
    return hits


def _outcome(reading: str, seed: int, sample: Sample, hit: Tensor | None) -> Outcome:
    """``hit`` [time] is None where the reading does not apply."""
    facts = dict(sample.facts)
    if hit is None:
        return Outcome(reading=reading, seed=seed, facts=facts, tokens=Share(0, 0), answers=Share(0, 0))
    here = hit[: len(sample.asked)]
    tokens = Share(int(here[sample.asked].sum()), int(sample.asked.sum()))
    return Outcome(reading=reading, seed=seed, facts=facts, tokens=tokens, answers=right_answers(sample, here))
