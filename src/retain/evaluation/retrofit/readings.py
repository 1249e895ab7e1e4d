"""The five ways in which a model with memories is asked about a page: with them, and with what they must be held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from retain.retrofit import Asked, FrozenPrefix, ask, branches_of, disable_memory, read_pages, read_whole, writing
from retain.tasks import AbstractPages, Page, Question
from retain.tasks.task import Fact

from ..recall import Watch
from ..result import check_controls
from ..stream import at_rest

MEMORY = "memory"
"""The parts of the page are read, the attention cache is cut between them and behind them, and memories answer."""
FULL = "base, full context"
"""Without memories: the page and the question stand in one context."""
CUT = "base, cut context"
"""Without memories: the question stands alone."""
OFF = "writes off"
"""As with memories, but nothing is ever written."""
FOREIGN = "memory of another document"
"""As with memories, but those that have read another page."""
READINGS = (FULL, CUT, MEMORY, OFF, FOREIGN)
CONTROLS = tuple(name for name in READINGS if name != MEMORY)


class Told(NamedTuple):
    """What a reading made of an answer.

    Examples:
        >>> import torch
        >>> Told(torch.tensor([0.1, 2.0]), torch.tensor([7, 5])).said.tolist()
        [7, 5]
    """

    loss: Tensor
    """How unlikely each token was given the true ones before it, in nats [answer]."""
    said: Tensor
    """What would have been said instead [answer]."""


class Reply(NamedTuple):
    """A question, and what each reading made of its answer; None where a reading does not apply, since the page does not fit the context.

    Examples:
        >>> import torch
        >>> question = Question(torch.tensor([7]), torch.tensor([5]), {"hops": 1})
        >>> Reply(0, 0, {"hops": 1}, question, {FULL: None}).told[FULL] is None
        True
    """

    seed: int
    number: int
    """Which question of its page it is."""
    facts: dict[str, Fact]
    """Those of the page and of the question."""
    question: Question
    told: dict[str, Told | None]


def replies(
    model: PreTrainedModel,
    pages: AbstractPages,
    seeds: Sequence[int],
    *,
    start: Sequence[int],
    batch: int = 8,
    full_context: int | None = None,
    prefix: FrozenPrefix | None = None,
    progress: Watch | None = None,
) -> list[Reply]:
    """Ask all questions of pages in all five ways; see ``page_recall`` for the arguments.

    Raises:
        ValueError: The model has no memories, there are not two pages, a number is out of range, or the pages do not fit the model.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> found = replies(model, Pairs(facts=3, asked=2, keys=Letters(2)), range(4), start=[256])
        >>> len(found), sorted(found[0].told)
        (8, ['base, cut context', 'base, full context', 'memory', 'memory of another document', 'writes off'])
    """
    seeds = list(seeds)
    _check(model, pages, seeds, start, batch, full_context)
    longest = getattr(model.config, "max_position_embeddings", None)
    room = min((limit for limit in (longest, full_context) if limit is not None), default=None)
    found: list[Reply] = []
    with at_rest(model):
        for first, some in _companies(seeds, batch):

            def tick(share: float, name: str, first: int = first, count: int = len(some)) -> None:
                if progress is not None:
                    progress((first + share * count) / len(seeds), f"page {first + 1} of {len(seeds)}: {name}")

            read = pages.batch(some)
            _check_room(read, len(start), longest)
            told = _five(model, read, start, room, prefix, tick)
            each = [(i, number, question) for i, page in enumerate(read) for number, question in enumerate(page.questions)]
            for row, (i, number, question) in enumerate(each):
                facts = {**read[i].facts, **question.facts}
                found.append(Reply(some[i], number, facts, question, {name: told[name][row] for name in READINGS}))
            tick(1.0, "done")
    return found


def check_whole(title: str, found: Sequence[tuple[str, int, int]], of: str) -> None:
    """Refuse to show a result that lacks a control, or in which a reading lacks something that another has.

    Args:
        title: What it says.
        found: The reading, the seed and the number of each entry.
        of: What an entry is.

    Raises:
        ValueError: It does.
    """
    check_controls(title, CONTROLS, [reading for reading, _, _ in found], MEMORY)
    each = {name: {(seed, number) for reading, seed, number in found if reading == name} for name in READINGS}
    short = [name for name in READINGS if each[name] != each[MEMORY]]
    if short:
        raise ValueError(f"{title!r} is not whole: {', '.join(map(repr, short))} are of other {of} than {MEMORY!r}.")


def _companies(seeds: list[int], batch: int) -> Iterator[tuple[int, list[int]]]:
    """Seeds of pages that are read side by side, and how many were before: ``batch`` of them, and one more where a page would be left alone."""
    first = 0
    while first < len(seeds):
        count = batch + (len(seeds) - first == batch + 1)
        yield first, seeds[first : first + count]
        first += count


def _five(
    model: PreTrainedModel,
    pages: list[Page],
    start: Sequence[int],
    room: int | None,
    prefix: FrozenPrefix | None,
    tick: Callable[[float, str], None],
) -> dict[str, list[Told | None]]:
    """For each reading, what it made of each question of the pages, page by page."""
    tick(0.0, MEMORY)
    own = read_pages(model, pages, start, prefix=prefix)
    others = [(i + 1) % len(pages) for i in range(len(pages))]
    told = {
        MEMORY: _split(ask(model, pages, own, start, prefix=prefix), pages),
        FOREIGN: _split(ask(model, pages, own, start, of=others, prefix=prefix), pages),
    }
    tick(0.4, OFF)
    with writing(model, False):
        told[OFF] = _split(ask(model, pages, read_pages(model, pages, start, prefix=prefix), start, prefix=prefix), pages)
    tick(0.7, FULL)
    with disable_memory(model):
        told[CUT] = _split(ask(model, pages, None, start, prefix=prefix), pages)
        told[FULL] = _in_context(model, pages, start, room)
    return told


def _in_context(model: PreTrainedModel, pages: list[Page], start: Sequence[int], room: int | None) -> list[Told | None]:
    """What a model made of each question with its page in sight, which is read once for all of them; None where it has no room."""
    told: list[Told | None] = []
    for page in pages:
        read = len(start) + len(page.text)
        fits = [room is None or read + len(question.prompt) + len(question.answer) <= room for question in page.questions]
        answers: Iterator[Told | None] = iter(())
        if any(fits):
            asked = replace(page, questions=tuple(question for question, has_room in zip(page.questions, fits, strict=True) if has_room))
            cache, last = read_whole(model, page, start)
            answers = iter(_split(ask(model, [asked], cache, last), [asked]))
        told += [next(answers) if has_room else None for has_room in fits]
    return told


def _split(asked: Asked, pages: Sequence[Page]) -> list[Told | None]:
    sizes = [len(question.answer) for page in pages for question in page.questions]
    return [Told(loss, said) for loss, said in zip(asked.loss.cpu().split(sizes), asked.said.cpu().split(sizes), strict=True)]


def _check(model: PreTrainedModel, pages: AbstractPages, seeds: list[int], start: Sequence[int], batch: int, full_context: int | None) -> None:
    if not branches_of(model):
        raise ValueError(
            "the model has no memories, so there is nothing to ask them. Cure: attach(model, MemoryConfig(...)), or load(model, folder)."
        )
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or batch < 2:
        raise ValueError(
            f"the memory of another document needs two pages at least that are read side by side, and each seed once; got batch={batch} and seeds {seeds[:10]}."
        )
    known = model.config.vocab_size
    if pages.vocab_size > known or not all(0 <= token < known for token in start):
        raise ValueError(
            f"the model knows {known} tokens; the pages have {pages.vocab_size}, and start={list(start)}. Cure: the codec of the model's own tokenizer, and its "
            "begin-of-text token."
        )
    if full_context is not None and full_context < 0:
        raise ValueError(f"full_context is the most tokens of a context, 0 for none at all, got {full_context}.")


def _check_room(pages: list[Page], start: int, longest: int | None) -> None:
    """Refuse what even a cut context does not hold."""
    size = start + max(max(*map(len, page.parts), *(len(q.prompt) + len(q.answer) for q in page.questions)) for page in pages)
    if longest is not None and size > longest:
        raise ValueError(
            f"a part or a question with its answer is {size} tokens long, and the model sees {longest} at most. Cure: pages in shorter parts, as by "
            "Followed(part=...)."
        )
