"""Reading and learning at once: the levels of continuum memories take their steps on the loss of the next tokens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.blocks import Block, BlockState
from retain.blocks.state import LEVELS
from retain.core.trees import under
from retain.numerics import any_order
from retain.numerics.ragged import gather, trim

States: TypeAlias = tuple[BlockState, ...]
# From tokens [rows, time], the states before them, and how many each row has, to the stream behind the last block [rows, time, hidden], the states behind,
# and the write costs [rows, time].
Reads: TypeAlias = Callable[[Tensor, States, Tensor], tuple[Tensor, States, Tensor]]


@dataclass(frozen=True)
class Unfinished:
    """Tokens that the levels have not yet learnt from: a value that goes in and comes out.

    Args:
        tokens: Those of the chunk under way [rows, chunk], of which row b has the first ``counts[b]``.
        counts: How many those are [rows], on the host.
        starts: The state of each block where the chunk began.
    """

    tokens: Tensor
    counts: Tensor
    starts: States

    @classmethod
    def none(cls, states: States, chunk: int, like: Tensor) -> Unfinished:
        """Nothing waits, in rows that stand where ``states`` do; ``like`` is a tensor of tokens."""
        rows = len(like)
        return cls(like.new_zeros(rows, chunk), torch.zeros(rows, dtype=torch.long), states)

    def map(self, function: Callable[[Tensor], Tensor]) -> Unfinished:
        """``function`` applied to every tensor but the host's counters."""
        return Unfinished(function(self.tokens), self.counts, tuple(start.map(function) for start in self.starts))

    def __getitem__(self, rows: Tensor) -> Unfinished:
        """The rows chosen by their indices, repeats allowed."""
        return Unfinished(self.tokens[rows.to(self.tokens.device)], self.counts[rows], tuple(start[rows] for start in self.starts))

    def without(self, rows: Tensor) -> Unfinished:
        """Nothing waits in the rows of a mask [rows]."""
        return replace(self, counts=torch.where(rows.cpu(), 0, self.counts))

    def starting(self, states: States) -> Unfinished:
        """The same, where rows that have no token of a chunk begin one at ``states``."""
        begin = self.counts == 0
        if not bool(begin.any()):
            return self
        if bool(begin.all()):
            return replace(self, starts=states)
        return replace(self, starts=tuple(BlockState.where(begin, new, old) for new, old in zip(states, self.starts, strict=True)))

    def longer(self, ids: Tensor, lengths: Tensor) -> Unfinished:
        """The same with the first ``lengths[b]`` of ``ids`` [rows, time] behind row b's tokens."""
        place = torch.arange(self.tokens.shape[1]) - self.counts[:, None]
        new = (place >= 0) & (place < lengths[:, None])
        tokens = torch.where(new.to(ids.device), gather(ids, torch.where(new, place, 0), new), self.tokens)
        return replace(self, tokens=tokens, counts=self.counts + lengths)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its path."""
        yield from (("tokens", self.tokens), ("counts", self.counts))
        for i, start in enumerate(self.starts):
            yield from ((f"starts/{i}/{path}", tensor) for path, tensor in start.named_tensors())

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> Unfinished:
        """The inverse of ``named_tensors``."""
        count = 1 + max((int(path.split("/")[1]) for path in named if path.startswith("starts/")), default=-1)
        return cls(named["tokens"], named["counts"].cpu(), tuple(BlockState.of(under(named, f"starts/{i}/")) for i in range(count)))

    def bytes_per_row(self) -> int:
        """The memory that one stream takes."""
        return self.tokens.shape[1] * self.tokens.element_size() + sum(start.bytes_per_row() for start in self.starts)


@dataclass(frozen=True)
class Learning:
    r"""Reads a stretch of each row's stream, and moves the levels wherever $C$ tokens, the period of the fastest, are complete.

    $\theta \leftarrow \mathrm{step}\bigl(\theta, \sum_t \nabla_\theta \ell_t\bigr)$ over a chunk of $C$ tokens counted from the start of the row's stream,
    $\ell_t = -\log p(x_{t+1} \mid x_{\le t})$. The gradient is that at the states where the chunk began, of its own tokens. The label of a chunk's last token
    is the next one's first, so it is learnt from when that arrives, and before that is read. A chunk that comes in several calls is read again from where
    it began; so any split of a stream into calls gives the same. Source: Nested Learning equation 71, with the loss of a language model.

    Args:
        blocks: Whose levels learn.
        reads: How they read.
        head: From the stream behind the last block to scores.
        through: Whether an outer gradient flows through the steps.
    """

    blocks: Sequence[Block]
    reads: Reads
    head: nn.Module
    through: bool = True

    @property
    def chunk(self) -> int:
        """$C$."""
        return self.blocks[0].continuum.fastest

    def __call__(self, ids: Tensor, states: States, lengths: Tensor, unfinished: Unfinished | None) -> tuple[Tensor, States, Tensor, Unfinished]:
        """As ``reads``, with the levels learning on the way; and what they have not yet learnt from."""
        waiting = Unfinished.none(states, self.chunk, ids) if unfinished is None else unfinished
        done, pieces = torch.zeros_like(lengths), _Pieces()
        ahead = F.pad(ids, (0, self.chunk + 1))
        while not pieces.parts or bool((done < lengths).any()):
            due = (waiting.counts == self.chunk) & (done < lengths)
            if bool(due.any()):
                states = self._catch_up(waiting, trim(ahead, done, 1)[:, 0], due, states)
                waiting = waiting.without(due)
            waiting = waiting.starting(states)
            take = torch.minimum(self.chunk - waiting.counts, lengths - done)
            part = trim(ahead, done, int(take.max()) if len(take) else 0)
            if len(take) and bool((waiting.counts == 0).all() and (done + self.chunk < lengths).all()):
                x, states, costs = self._read_and_learn(part, trim(ahead, done + 1, self.chunk), states)
            else:
                x, states, costs = self.reads(part, states, take)
                waiting = waiting.longer(part, take)
            pieces.add(x, costs, take)
            done = done + take
        return *pieces.joined(lengths, ids.shape[1], states), waiting

    def _read_and_learn(self, ids: Tensor, labels: Tensor, states: States) -> tuple[Tensor, States, Tensor]:
        """Read a whole chunk of each row, and learn from it."""
        outer = torch.is_grad_enabled()
        whole = torch.full((len(ids),), self.chunk)
        with self._gradients(), torch.enable_grad():
            before = _asking(states, outer)
            x, after, costs = self.reads(ids, before, whole)
            gradients = self._gradients_of(x, labels, before, outer)
        if not outer:
            x, costs, after = x.detach(), costs.detach(), tuple(state.detach() for state in after)
        return x, self._stepped(after, gradients, whole), costs

    def _catch_up(self, waiting: Unfinished, labels: Tensor, due: Tensor, states: States) -> States:
        """Learn from the chunks that are complete, in the rows that are due; ``labels`` [rows] are the tokens behind them."""
        rows = due.nonzero()[:, 0]
        chosen = waiting if bool(due.all()) else waiting[rows]
        outer, wanted = torch.is_grad_enabled(), torch.cat([chosen.tokens[:, 1:], labels[rows.to(labels.device), None]], dim=1)
        with self._gradients(), torch.enable_grad():
            before = _asking(chosen.starts, outer)
            x, _, _ = self.reads(chosen.tokens, before, chosen.counts)
            gradients = self._gradients_of(x, wanted, before, outer)
        if bool(due.all()):
            return self._stepped(states, gradients, chosen.counts)
        stepped = self._stepped(tuple(state[rows] for state in states), gradients, chosen.counts)
        return tuple(_levels_put(state, rows, new) for state, new in zip(states, stepped, strict=True))

    @contextmanager
    def _gradients(self) -> Generator[None]:
        """Within, all that happens has gradients more than once, if an outer one is to come."""
        if not torch.is_grad_enabled():
            yield
            return
        with any_order():
            yield

    def _gradients_of(self, x: Tensor, labels: Tensor, states: States, outer: bool) -> list[dict[str, Tensor]]:
        """Those of the loss, summed over tokens, with respect to the weights of each block's levels."""
        scores = self.head(x).flatten(0, 1)
        loss = F.cross_entropy(scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores, labels.flatten(), reduction="sum")
        weights = [block.continuum.weights(under(state.tensors, LEVELS)) for block, state in zip(self.blocks, states, strict=True)]
        flat = [weight for own in weights for weight in own.values()]
        found = iter(torch.autograd.grad(loss, flat, create_graph=outer and self.through, retain_graph=outer))
        return [{path: next(found) for path in own} for own in weights]

    def _stepped(self, states: States, gradients: list[dict[str, Tensor]], tokens: Tensor) -> States:
        return tuple(block.learn(state, own, tokens) for block, state, own in zip(self.blocks, states, gradients, strict=True))


class _Pieces:
    """What was read piece by piece, each with as many tokens of each row as fell to it."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []
        self.takes: list[Tensor] = []

    def add(self, x: Tensor, costs: Tensor, take: Tensor) -> None:
        self.parts.append((x, costs))
        self.takes.append(take)

    def joined(self, lengths: Tensor, time: int, states: States) -> tuple[Tensor, States, Tensor]:
        """[rows, time, hidden], the states, and [rows, time]; zero behind a row's last token."""
        x, costs = (torch.cat(parts, dim=1) for parts in zip(*self.parts, strict=True))
        widths = [part.shape[1] for part, _ in self.parts]
        if all(bool((take == width).all()) for take, width in zip(self.takes, widths, strict=True)):
            fill = time - x.shape[1]
            return (F.pad(x, (0, 0, 0, fill)), states, F.pad(costs, (0, fill))) if fill else (x, states, costs)
        place, index = torch.arange(time), torch.zeros(len(lengths), time, dtype=torch.long)
        begun, base = torch.zeros_like(lengths), 0
        for take, width in zip(self.takes, widths, strict=True):
            here = (place >= begun[:, None]) & (place < (begun + take)[:, None])
            index = torch.where(here, base + place - begun[:, None], index)
            begun, base = begun + take, base + width
        alive = place < lengths[:, None]
        return gather(x, index, alive), states, gather(costs, index, alive)


def _asking(states: States, outer: bool) -> States:
    """The same numbers, of which the weights of levels ask for gradients, and nothing else if there is no outer gradient."""

    def asks(name: str, tensor: Tensor) -> Tensor:
        moving = name.startswith(LEVELS) and "/weights/" in name
        return tensor.detach().requires_grad_() if moving and not tensor.requires_grad else tensor

    plain = states if outer else tuple(state.detach() for state in states)
    return tuple(replace(state, tensors={name: asks(name, tensor) for name, tensor in state.tensors.items()}) for state in plain)


def _levels_put(state: BlockState, rows: Tensor, new: BlockState) -> BlockState:
    """``state`` with the levels of its ``rows`` replaced by all of ``new``'s."""
    levels = {
        name: tensor.index_copy(0, rows.to(tensor.device), new.tensors[name]) for name, tensor in state.tensors.items() if name.startswith(LEVELS)
    }
    return replace(state, tensors={**state.tensors, **levels})
