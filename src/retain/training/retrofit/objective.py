"""What is minimised: how unlikely the answers are, what ordinary text notices of the memories, and what writing costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from retain.retrofit import FrozenPrefix, MemoryCache, ask, disable_memory, read_pages, watch
from retain.retrofit.asking import run_rows
from retain.tasks import Page


class Graded(NamedTuple):
    """What came of some pages, as sums, so that parts and processes add up."""

    loss: Tensor  # over the tokens of answers
    exact: Tensor  # answers that greedy decoding would give
    divergence: Tensor  # from the base, over the tokens of ordinary text
    cost: Tensor  # the openness of the memories' learning gates, over the tokens of pages


class PageObjective(nn.Module):
    """A model with memories and what it is asked, as one module that can be distributed.

    Args:
        model: The model.
        start: The tokens that are put before each stretch that is read with a fresh attention cache.
        prefix: What keeps the work of the frozen layers, if pages come again.
        margin: See ``NeuralMemory.write_cost``; None leaves the cost out.
    """

    def __init__(self, model: PreTrainedModel, start: Sequence[int], prefix: FrozenPrefix | None, margin: float | None) -> None:
        super().__init__()
        self.model, self.start, self.prefix, self.margin = model, start, prefix, margin

    def forward(self, pages: Sequence[Page], ordinary: Tensor | None) -> Graded:
        """Read pages, forget what was attended to, and ask; then read ordinary text [rows, time], each row with the memory of some page."""
        with nullcontext() if self.margin is None else watch(self.model, keep_graph=True, margin=self.margin) as seen:
            cache = read_pages(self.model, pages, self.start, prefix=self.prefix)
        read = sum(len(self.start) + len(part) for page in pages for part in page.parts)
        asked = ask(self.model, pages, cache, self.start, prefix=self.prefix)
        none = asked.loss.new_zeros(())
        divergence = none if ordinary is None else self._divergence(ordinary, cache)
        return Graded(asked.loss.sum(), asked.exact.sum(), divergence, none if seen is None else seen.write_cost() * read)

    def _divergence(self, ordinary: Tensor, cache: MemoryCache) -> Tensor:
        full = cache.fork()
        full.batch_select_indices(torch.arange(len(ordinary)) % cache.rows)
        rows = [torch.cat([row.new_tensor(self.start), row]) for row in ordinary]
        said = self._scores(rows, full)
        with torch.no_grad(), disable_memory(self.model):
            meant = self._scores(rows, None)
        return F.kl_div(said, meant, log_target=True, reduction="sum")

    def _scores(self, rows: Sequence[Tensor], cache: MemoryCache | None) -> Tensor:
        hidden, _ = run_rows(self.model, rows, cache, self.prefix)
        head = self.model.get_output_embeddings()
        assert isinstance(head, nn.Module)
        return F.log_softmax(head(hidden).float(), dim=-1)
