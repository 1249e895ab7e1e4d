r"""Which earlier tokens a read draws on: the sensitivity of the memory's answer to the values that were written.

For the answer $y_t$ of a head to token $t$ and the value $v_s$ that token $s$ wrote, the weight is $\|\partial \|y_t\| / \partial v_s\|$: by how much the
length of the answer would change if the value were another, per unit of change, with everything else as it was. Where the answer is a weighted sum of
values, $y_t = \sum_s a_{ts} v_s$, as in a memory that is a matrix under an L2 or dot-product bias, this is $|a_{ts}|$: the weight of linear attention.
In a deep memory it is a first derivative, and holds for small changes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from retain.core.rule import MemoryRule
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import select

MOST = 24
"""Tokens that are kept of each read and head: those that it draws on most."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What the reads of one token draw on.

    Args:
        at: The token's place.
        since: The place of the first token it is traced back to.
        weights: For each head, and each token from ``since`` to ``at`` [heads, tokens].

    Examples:
        >>> Draws(at=2, since=0, weights=torch.tensor([[0.5, 0.0, 1.0]])).strongest(1)[0].tolist()
        [[2], [2]]
    """

    at: int
    since: int
    weights: Tensor

    def strongest(self, most: int = MOST) -> tuple[Tensor, Tensor, Tensor]:
        """For the mean over heads and for each head, places and weights of the tokens drawn on most [1 + heads, most], and the sum over all [1 + heads].

        Where there are fewer, the place is -1.

        Examples:
            >>> draws = Draws(at=12, since=10, weights=torch.tensor([[0.0, 3.0, 1.0], [0.0, 1.0, 1.0]]))
            >>> places, weights, total = draws.strongest(2)
            >>> places.tolist(), weights.tolist(), total.tolist()
            ([[11, 12], [11, 12], [11, 12]], [[2.0, 1.0], [3.0, 1.0], [1.0, 1.0]], [3.0, 4.0, 2.0])
        """
        rows = torch.cat([self.weights.mean(0, keepdim=True), self.weights])
        best = rows.topk(min(most, rows.shape[1]), dim=1)
        places, weights = torch.full((len(rows), most), -1, dtype=torch.int32), torch.zeros(len(rows), most)
        width = best.values.shape[1]
        places[:, :width] = torch.where(best.values > 0, best.indices + self.since, -1).int()
        weights[:, :width] = best.values
        return places, weights, rows.sum(1)


def drawn(rule: MemoryRule, tokens: Tokens, state: MemoryState, at: Sequence[int], first: int = 0) -> list[Draws]:
    """What the reads of some tokens of a stretch draw on, by one backward pass each.

    Args:
        rule: That of the memory.
        tokens: The stretch, of one row.
        state: Before it.
        at: Places in the stretch of the tokens that read.
        first: The stretch's own place in its stream.

    Raises:
        ValueError: There is more than one row.
    """
    if tokens.batch != 1:
        raise ValueError(f"reads are traced in one row, got {tokens.batch}. Cure: one row of the tokens and of the state.")
    upto = tokens.map(lambda x: x[:, : max(at) + 1])
    with torch.enable_grad():
        v = upto.v.detach().requires_grad_()
        y, _, _ = select(rule).run(rule, replace(upto, v=v), state)
        lengths = y[0].norm(dim=-1)
        found = []
        for i, place in enumerate(at):
            (slope,) = torch.autograd.grad(lengths[place].sum(), v, retain_graph=i + 1 < len(at))
            weights = slope[0, : place + 1].flatten(2).norm(dim=-1).T
            found.append(Draws(at=first + place, since=first, weights=weights.float().cpu()))
    return found
