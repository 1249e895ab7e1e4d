"""What an update reads, how it is done, and on what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from retain.retrofit import ask, disable_memory, read_pages
from retain.tasks import Page, Question

from .traced import Speed


@dataclass(frozen=True, kw_only=True)
class Device:
    """Something to compute on.

    Args:
        name: What it is called.
        memory: Bytes.
        half: Operations a second on 16-bit numbers, at best, by the data sheet.
        single: On 32-bit ones.
        traffic: Bytes a second to and from its memory, at best.
        utilisation: The share of all three that is reached, an assumption.
        start: Seconds between two operations that have nothing to do, an assumption.
        link: Bytes a second to the other processes.

    Examples:
        >>> H100.memory / 1e9, H100.utilisation
        (80.0, 0.4)
    """

    name: str
    memory: float
    half: float
    single: float
    traffic: float
    utilisation: float = 0.4
    start: float = 1e-5
    link: float = 40e9

    @property
    def speed(self) -> Speed:
        """What an operation takes on it."""
        return Speed(self.half * self.utilisation, self.single * self.utilisation, self.traffic * self.utilisation, self.start)


H100 = Device(name="H100 80GB SXM", memory=80e9, half=989e12, single=67e12, traffic=3.35e12)
A100 = Device(name="A100 80GB", memory=80e9, half=312e12, single=19.5e12, traffic=2.0e12)
TWO_CORES = Device(name="two CPU cores", memory=16e9, half=1.6e12, single=0.27e12, traffic=15e9, utilisation=0.7, start=1.5e-5, link=1e9)
"""The first two as their data sheets have them, without sparsity; the third's speeds are those of matrix products that were measured on one."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What an update reads, over all processes.

    Args:
        rows: Pages.
        read: Tokens of a page.
        parts: In which a page is read, with a fresh attention cache each.
        asked: Questions a page.
        question: Tokens of a question's prompt.
        answer: Tokens of its answer.
        ordinary_rows: Rows of ordinary text, on which the model must say what the base says; 0 for none.
        ordinary_length: Tokens of each.

    Raises:
        ValueError: A number is too small, or there are more parts than tokens.

    Examples:
        >>> Sizes(rows=2, read=100, asked=3, question=8, answer=2, ordinary_rows=1, ordinary_length=50).tokens
        310
    """

    rows: int = 8
    read: int = 1024
    parts: int = 1
    asked: int = 4
    question: int = 16
    answer: int = 4
    ordinary_rows: int = 0
    ordinary_length: int = 512

    def __post_init__(self) -> None:
        if min(self.rows, self.read, self.parts, self.asked, self.answer, self.ordinary_length) < 1 or min(self.question, self.ordinary_rows) < 0:
            raise ValueError(f"the sizes of an update are at least 1, question and ordinary_rows at least 0; got {self}.")
        if self.parts > self.read:
            raise ValueError(f"a page of {self.read} tokens has no {self.parts} parts.")

    @property
    def tokens(self) -> int:
        """All that are read, ordinary text once: start tokens do not count."""
        return self.rows * (self.read + self.asked * (self.question + self.answer)) + self.ordinary_rows * self.ordinary_length

    @property
    def calls(self) -> int:
        """Of the model and the base together."""
        return self.parts + 1 + (2 if self.ordinary_rows else 0)

    def of_one(self, processes: int, accumulate: int) -> Sizes:
        """The share of one process in one of ``accumulate`` parts.

        Raises:
            ValueError: The rows cannot be shared evenly.
        """
        pieces = processes * accumulate
        if self.rows % pieces or self.ordinary_rows % pieces:
            raise ValueError(
                f"{self.rows} pages and {self.ordinary_rows} rows of ordinary text cannot be shared evenly by {processes} processes in {accumulate} parts. "
                "Cure: rows and ordinary_rows that are multiples of processes x accumulate."
            )
        return replace(self, rows=self.rows // pieces, ordinary_rows=self.ordinary_rows // pieces)

    def loss(self, model: PreTrainedModel) -> Tensor:
        """What is trained on, with tokens that say nothing."""
        pages = [self._page() for _ in range(self.rows)]
        total = ask(model, pages, read_pages(model, pages, start=0), start=0).loss.mean()
        if self.ordinary_rows:
            text = torch.zeros(self.ordinary_rows, self.ordinary_length, dtype=torch.long, device=model.device)
            with torch.no_grad(), disable_memory(model):
                wanted = F.log_softmax(model(input_ids=text, use_cache=False).logits.float(), -1)
            said = F.log_softmax(model(input_ids=text, use_cache=False).logits.float(), -1)
            total = total + F.kl_div(said, wanted, log_target=True, reduction="sum") / text.numel()
        return total

    def _page(self) -> Page:
        def tokens(count: int) -> Tensor:
            return torch.zeros(count, dtype=torch.long)

        question = Question(tokens(self.question), tokens(self.answer), {})
        return Page(tuple(torch.tensor_split(tokens(self.read), self.parts)), (question,) * self.asked, {})


@dataclass(frozen=True, kw_only=True)
class Work:
    """How an update is done.

    Args:
        precision: Of the base; the memory's weights are 32-bit numbers in any case.
        checkpointing: Whether layers are computed again in the backward pass rather than kept.
        processes: A device each.
        across: Each with a copy of everything, or with a part of every weight.
        accumulate: Parts in which the rows are read, one after the other.

    Raises:
        ValueError: There is no process, or no part.

    Examples:
        >>> Work(processes=16, across="shards").precision
        'bf16'
    """

    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = False
    processes: int = 1
    across: Literal["replicas", "shards"] = "replicas"
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.processes < 1 or self.accumulate < 1:
            raise ValueError(f"there is at least one process and one part, got {self.processes} and {self.accumulate}.")
        if self.precision not in ("bf16", "fp32") or self.across not in ("replicas", "shards"):
            raise ValueError(f"precision is 'bf16' or 'fp32', across 'replicas' or 'shards'; got {self.precision!r} and {self.across!r}.")
