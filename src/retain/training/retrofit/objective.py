"""What is minimised: how unlikely the answers are, what ordinary text notices of the memories, and what writing costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from retain.retrofit import FrozenPrefix, MemoryCache, ask, disable_memory, read_pages
from retain.tasks import Page


class Graded(NamedTuple):
    """What came of some pages, as sums, so that parts and processes add up."""

    loss: Tensor  # summed over the tokens of answers
    exact: Tensor  # answers that greedy decoding would give
    divergence: Tensor  # from the base, summed over the tokens of ordinary text
    cost: Tensor  # the openness of the memories' learning gates, summed over the tokens of pages


class PageObjective(nn.Module):
    """A model with memories and what it is asked, as one module that can be distributed.

    Args:
        model: The model.
        start: The token that is put before each stretch that is read with a fresh attention cache.
        prefix: What keeps the work of the frozen layers, if pages come again.
    """

    def __init__(self, model: PreTrainedModel, start: int, prefix: FrozenPrefix | None) -> None:
        super().__init__()
        self.model, self.start, self.prefix = model, start, prefix

    def forward(self, pages: Sequence[Page], ordinary: Tensor | None) -> Graded:
        """Read pages, forget what was attended to, and ask; then read ordinary text [rows, time], each row with the memory of some page."""
        cache = read_pages(self.model, pages, self.start, prefix=self.prefix)
        asked = ask(self.model, pages, cache, self.start, prefix=self.prefix)
        divergence = asked.loss.new_zeros(()) if ordinary is None else self._divergence(ordinary, cache)
        return Graded(asked.loss.sum(), asked.exact.sum(), divergence, asked.loss.new_zeros(()))

    def _divergence(self, ordinary: Tensor, cache: MemoryCache) -> Tensor:
        full = cache.fork()
        full.batch_select_indices(torch.arange(len(ordinary)) % cache.rows)
        rows = [torch.cat([ordinary.new_tensor([self.start]), row]) for row in ordinary]
        said, meant = self._scores(rows, full), self._scores(rows, None)
        return F.kl_div(said, meant, log_target=True, reduction="sum")
