"""Tokens that are read together, for structures in which they see each other: each at its place among them, so that no later one is ever in sight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.numerics.ragged import gather


def place_of_query(rule: MemoryRule, clock: Tensor) -> Tensor:
    """The place, among those that read the same memory, of the token that comes when this many have been [...]."""
    return (clock + (rule.reads == "after")) % rule.step_every


def context_after(rule: MemoryRule, context: Tensor, q: Tensor, clock: Tensor, lengths: Tensor) -> Tensor:
    """The queries a state keeps [batch, places, heads, key] when, of each row, the first ``lengths`` of ``q`` [batch, time, heads, key] have come."""
    place = torch.arange(rule.step_every)
    latest = lengths[:, None] - 1 - (place_of_query(rule, clock + lengths - 1)[:, None] - place) % rule.step_every
    new = latest >= 0
    return torch.where(new.to(q.device)[:, :, None, None], gather(q, torch.where(new, latest, 0), new), context)


def among_their_own(rule: MemoryRule, context: Tensor, grid: Tensor, first: Tensor) -> Tensor:
    """Queries on a grid of whole steps [batch, cells, heads, key] with those that the state keeps in front of each row's ``first`` new cell [batch].

    Where tokens read after their step a cell is put in front, so that those that are read together always fill a step's cells.
    """
    ahead = int(rule.reads == "after")
    grid, cell = torch.cat([grid.new_zeros(grid.shape[0], ahead, *grid.shape[2:]), grid], dim=1), torch.arange(grid.shape[1] + ahead)
    first = (first + ahead)[:, None]
    kept = (cell < first) & (cell >= first - first % rule.step_every)
    return torch.where(kept.to(grid.device)[:, :, None, None], gather(context, (cell % rule.step_every).expand(kept.shape), kept), grid)


@dataclass(frozen=True)
class Company:
    """Tokens [batch, places, heads, pairs, width], of which ``seen`` [batch, places, pairs] are visible to those at later places."""

    tokens: Tensor
    seen: Tensor

    @classmethod
    def of_queries(cls, context: Tensor) -> Company:
        """The queries that a state keeps; all of them are seen."""
        return cls(context.unsqueeze(3), torch.ones(*context.shape[:2], 1, dtype=torch.bool, device=context.device))

    @classmethod
    def of_keys(cls, like: Tensor, places: int) -> Company:
        """No key yet, where a token's are ``like`` [batch, heads, pairs, width]."""
        batch, _, pairs, _ = like.shape
        return cls(like.new_zeros(batch, places, *like.shape[1:]), torch.zeros(batch, places, pairs, dtype=torch.bool, device=like.device))

    def put(self, rows: Tensor, place: Tensor, x: Tensor, seen: Tensor | None = None) -> Company:
        """With a token [batch, heads, pairs, width] at the ``place`` [batch] of each row that is chosen."""
        here = ((torch.arange(self.seen.shape[1]) == place[:, None]) & rows[:, None]).to(x.device)
        tokens = torch.where(here[:, :, None, None, None], x.unsqueeze(1), self.tokens)
        return Company(tokens, self.seen if seen is None else torch.where(here.unsqueeze(-1), seen.unsqueeze(1), self.seen))

    def read(self, rule: MemoryRule, params: Params, place: Tensor) -> Tensor:
        """What the memory answers to the token at the ``place`` [batch] of each row: [batch, heads, pairs, value]."""
        pairs = self.tokens.shape[3]
        y = rule.structure.read(Plain(params, self.seen.flatten(1).unsqueeze(1)), self.tokens.transpose(1, 2).flatten(2, 3)).unflatten(2, (-1, pairs))
        return y[torch.arange(y.shape[0], device=y.device), :, place.to(y.device)]
