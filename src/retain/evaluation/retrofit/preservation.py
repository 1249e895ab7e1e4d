"""Whether a model with memories still foretells ordinary text as its base does, with an empty memory and with a full one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from retain.retrofit import ask, branches_of, disable_memory, read_pages
from retain.tasks import AbstractPages, Page, Question

from ..recall import Watch
from ..result import About, AbstractResult, about, check_controls, table
from ..stream import at_rest
from .after_cut import Mean

BASE, EMPTY, FILLED = "base", "empty memory", "full memory"


@dataclass(frozen=True, kw_only=True)
class Preservation(AbstractResult):
    r"""What ordinary texts cost, in nats a token, without memories, with memories that are empty before, and with memories full of something else.

    The ratio of two perplexities is $e^{d}$ with $d$ the mean difference of the nats, text by text.

    Args:
        title: Of its table.
        nats: Nats a token of each text, by reading: ``"base"``, ``"empty memory"``, ``"full memory"``.
        tokens: Of each text.
        about: What the numbers must be read with.

    Examples:
        >>> nats = {"base": (3.0, 2.0), "empty memory": (3.0, 2.0), "full memory": (3.2, 2.0)}
        >>> result = Preservation(title="English", nats=nats, tokens=64, about={})
        >>> round(result.ratio(), 4)
        1.1052
        >>> print(result)
        **English**: 2 texts of 64 tokens
        <BLANKLINE>
        | reading | nats a token | perplexity | times the base's |
        | --- | --- | --- | --- |
        | base | 2.500 ± 0.500 | 12.2 | 1 |
        | empty memory | 2.500 ± 0.500 | 12.2 | 1.000 (1.000 - 1.000) |
        | full memory | 2.600 ± 0.600 | 13.5 | 1.105 (0.905 - 1.350) |
    """

    kind: ClassVar[str] = "preservation"
    controls: ClassVar[tuple[str, ...]] = (BASE, EMPTY)

    title: str
    nats: Mapping[str, tuple[float, ...]]
    tokens: int
    about: About

    def more(self, reading: str = FILLED) -> Mean:
        """Nats a token more than the base's, text by text."""
        return Mean.of(dear - cheap for dear, cheap in zip(self.nats[reading], self.nats[BASE], strict=True))

    def ratio(self, reading: str = FILLED) -> float:
        """The perplexity in units of the base's."""
        return math.exp(self.more(reading).value)

    def check(self) -> None:
        """Refuse to be shown without the base and the empty memory.

        Raises:
            ValueError: A reading is not there.
        """
        check_controls(self.title, self.controls, list(self.nats), FILLED)

    def markdown(self) -> str:
        """The table; behind each ratio stand the ends that it has two standard errors of the mean difference away.

        Raises:
            ValueError: A reading is not there.
        """
        self.check()
        lines = []
        for name in (BASE, EMPTY, FILLED):
            mean, more = Mean.of(self.nats[name]), self.more(name)
            ends = [math.exp(more.value + side * more.error) for side in (-2, 2)]
            ratio = "1" if name == BASE else f"{self.ratio(name):.3f} ({ends[0]:.3f} - {ends[1]:.3f})"
            lines.append([name, str(mean), f"{math.exp(mean.value):.3g}", ratio])
        head = f"**{self.title}**: {len(self.nats[BASE]):,} texts of {self.tokens:,} tokens"
        return f"{head}\n\n" + table(["reading", "nats a token", "perplexity", "times the base's"], lines)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Preservation:
        return cls(**{**data, "nats": {name: tuple(each) for name, each in data["nats"].items()}})


def preservation(
    model: PreTrainedModel,
    texts: Int[Tensor, "rows time"],
    pages: AbstractPages,
    seeds: Sequence[int],
    *,
    start: Sequence[int],
    batch: int = 8,
    progress: Watch | None = None,
    title: str = "Ordinary text",
) -> Preservation:
    """What ordinary text costs a model: its base, with memories that are empty, and with memories full of pages that have nothing to do with it.

    Memories that may write write the text too, as they would in use.

    Args:
        model: A model with memories.
        texts: The texts, side by side [rows, time].
        pages: What fills the memories.
        seeds: Of the pages, one for each text.
        start: The tokens that are put before each text, and before each part of a page.
        batch: Texts that are read side by side.
        progress: Is told how far it is.
        title: Of the table.

    Raises:
        ValueError: The model has no memories, there are not two texts of a token at least, or there are more seeds or fewer than texts.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> result = preservation(model, torch.arange(40).view(2, 20), Pairs(facts=3, keys=Letters(2)), range(2), start=[256])
        >>> result.ratio(), result.ratio("empty memory")
        (1.0, 1.0)
    """
    seeds, (rows, time) = list(seeds), texts.shape
    if not branches_of(model):
        raise ValueError("the model has no memories that could change anything. Cure: attach(model, MemoryConfig(...)), or load(model, folder).")
    if rows < 2 or not time or len(seeds) != rows or batch < 1:
        raise ValueError(
            f"preservation needs two texts of a token at least, a seed for each, and batch >= 1; got {rows} texts of {time} tokens, {len(seeds)} seeds and "
            f"batch={batch}."
        )
    nats: dict[str, list[float]] = {BASE: [], EMPTY: [], FILLED: []}
    with at_rest(model):
        for first in range(0, rows, batch):
            some = slice(first, first + batch)
            filled = [_followed_by(page, text) for page, text in zip(pages.batch(seeds[some]), texts[some].cpu(), strict=True)]
            with disable_memory(model):
                asked = {BASE: ask(model, filled, None, start)}
            asked[EMPTY] = ask(model, filled, None, start)
            asked[FILLED] = ask(model, filled, read_pages(model, filled, start), start)
            for name, one in asked.items():
                nats[name] += one.loss.double().view(-1, time).mean(1).tolist()
            if progress is not None:
                progress(min(1.0, (first + batch) / rows), f"text {min(rows, first + batch)} of {rows}")
    return Preservation(title=title, nats={name: tuple(each) for name, each in nats.items()}, tokens=time, about=about(model))


def _followed_by(page: Page, text: Tensor) -> Page:
    """The page with the text as the answer to an empty question."""
    return Page(page.parts, (Question(torch.zeros(0, dtype=torch.long), text, {}),), {})
