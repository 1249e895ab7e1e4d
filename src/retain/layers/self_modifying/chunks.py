"""Self-modifying memories chunk by chunk: all tokens of a chunk at once, all memories side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.reader import Plain
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.trees import each
from retain.numerics import Layout, recompute, unit
from retain.numerics.rank_one import Erasing, Stretch

from .bank import Bank, Weights
from .rule import Circuit, SelfModifyingRule, Views, in_every_row, part


def in_chunks(circuit: Circuit, views: Views, state: MemoryState, lengths: Tensor, passage: int = 16) -> tuple[Tensor, MemoryState]:
    """What ``token_by_token`` gives, many tokens at once.

    Everything that a token brings is made at weights that stand still until the next boundary. So a chunk is two readings of all memories, one of its
    tokens and one of their keys and values, a triangular system for the keys, and one step that is all of its steps.

    Args:
        circuit: What is run.
        views: The tokens.
        state: Where each row stands.
        lengths: How many of the tokens each row has [batch], on the host; those behind are answered with zero.
        passage: Chunks whose intermediate results are computed again in the backward pass, together; 0 keeps everything.
    """
    time, heads = views.x.shape[1:3]
    if not lengths.any():
        return torch.zeros_like(views.x), state
    sizes = circuit.rule.chunks
    tile = math.lcm(*sizes.values())
    layout = Layout(state.clock % tile, lengths, tile)
    first = int(layout.offset.min())
    grid = _Grid.of(circuit, views, layout)
    bank = Bank(circuit.structures[0], circuit.written)
    held: list[Weights] = [bank.gather(params) for params in (state.anchor, state.accumulator, *state.moments)]
    bounds = sorted({first, layout.cells, *(cell for size in sizes.values() for cell in range(first - first % size + size, layout.cells, size))})
    many = passage if passage and torch.is_grad_enabled() else len(bounds)
    layers, outputs = tuple(held[0]), []
    for i in range(0, len(bounds) - 1, many):
        cuts = bounds[i : i + many + 1]
        here = grid.part(cuts[0], cuts[-1])

        def run(*tensors: Any, cuts: list[int] = cuts, here: _Grid = here) -> tuple[Tensor, ...]:
            given = iter(tensors)
            before: list[Weights] = [{layer: next(given) for layer in layers} for _ in range(2 + len(state.moments))]
            y, after = _passage(circuit, bank, layout, cuts, here.with_tensors(given), before)
            return y, *(w for weights in after for w in weights.values())

        again = recompute if cuts[-1] < bounds[-1] else lambda function, *tensors: function(*tensors)
        y, *after = again(run, *(w for weights in held for w in weights.values()), *here.tensors())
        held = [dict(zip(layers, after[j : j + len(layers)], strict=True)) for j in range(0, len(after), len(layers))]
        outputs.append(y)
    y = torch.cat(outputs, dim=1)
    if "memory" in circuit.still:
        y = circuit.structure("memory").read(Plain(_still(circuit, "memory", state.batch)), y)
    anchor, weights, *moments = (bank.scatter(part, heads) for part in held)
    after = replace(state, accumulator=weights, anchor=anchor, moments=tuple(moments), clock=state.clock + lengths)
    return layout.take(F.pad(y.unflatten(0, (-1, heads)).transpose(1, 2), (0, 0, 0, 0, first, 0)), time), after


@dataclass(frozen=True)
class _Grid:
    """Tokens on a grid of chunks, heads first: N heads of rows.

    Args:
        x: What memories read [N, cells, width].
        q: Queries; None if a memory makes them.
        momentum: [N, cells].
        active: Which cells are written [N, cells]; None if all are.
        still: What memories that stand still answer to ``x``, by name [N, cells, 1 or width].
        biases: Those of the gates, by name [N, 1].
    """

    x: Tensor
    q: Tensor | None
    momentum: Tensor | None
    active: Tensor | None
    still: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]

    @classmethod
    def of(cls, circuit: Circuit, views: Views, layout: Layout) -> _Grid:
        batch, _, heads = views.x.shape[:3]

        def placed(x: Tensor) -> Tensor:
            return layout.place(x).transpose(1, 2).flatten(0, 1)

        x, write = placed(views.x), views.write
        if write is None and not layout.uniform:
            write = torch.ones(views.x.shape[:2], dtype=torch.bool, device=x.device)
        if write is not None:
            write = layout.place(write).repeat_interleave(heads, dim=0)
        still = {name: circuit.structure(name).read(Plain(_still(circuit, name, batch)), x) for name in circuit.still if name != "memory"}
        biases = {name: bias.repeat(batch).unsqueeze(-1) for name, bias in circuit.biases.items()}
        q, momentum = (None if part is None else placed(part) for part in (views.q, views.momentum))
        return cls(x, q, momentum, write, still, biases)

    def part(self, start: int, stop: int) -> _Grid:
        """The cells from ``start`` to ``stop``."""
        q, momentum, active = (None if whole is None else whole[:, start:stop] for whole in (self.q, self.momentum, self.active))
        still = {name: said[:, start:stop] for name, said in self.still.items()}
        return _Grid(self.x[:, start:stop], q, momentum, active, still, self.biases)

    def tensors(self) -> list[Tensor | None]:
        """All of its tensors."""
        return [self.x, self.q, self.momentum, self.active, *self.still.values(), *self.biases.values()]

    def with_tensors(self, tensors: Iterator[Any]) -> _Grid:
        """The same with these in their places."""
        x, q, momentum, active = (next(tensors) for _ in range(4))
        still, biases = ({name: next(tensors) for name in named} for named in (self.still, self.biases))
        return _Grid(x, q, momentum, active, still, biases)


def _still(circuit: Circuit, name: str, batch: int) -> Params:
    """The weights of a memory that stands still, for N heads of rows."""
    return each(lambda w: w.flatten(0, 1), in_every_row(circuit.still[name], batch))


def _passage(circuit: Circuit, bank: Bank, layout: Layout, cuts: list[int], tokens: _Grid, held: list[Weights]) -> tuple[Tensor, list[Weights]]:
    """What the memory answers to the tokens between the first and the last cut, or their queries if it stands still; and behind them what is ``held``:
    the weights that all is made with, those that are moved, and their moments.
    """
    (anchor, *moved), answering, queries = held, [], []
    for start, stop in pairwise(cuts):
        if "memory" in bank.names:
            answering.append(bank.alone("memory", anchor))
        q, moved = _segment(circuit, bank, tokens.part(start - cuts[0], stop - cuts[0]), anchor, moved)
        queries.append(q)
        ended = (layout.offset < stop) & (stop <= layout.end)
        over = {name: ended if stop % size == 0 else torch.zeros_like(ended) for name, size in circuit.rule.chunks.items()}
        if all(bool(rows.all()) for rows in over.values()):
            anchor = moved[0]
        elif any(bool(rows.any()) for rows in over.values()):
            turned = torch.stack([over["memory" if name == "memory" else "projections"] for name in bank.names], dim=1)
            turned = turned.repeat_interleave(len(tokens.x) // len(ended), dim=0)
            anchor = bank.where(turned.to(tokens.x.device), moved[0], anchor)
    y = _answers(circuit, answering, queries) if answering else torch.cat(queries, dim=1)
    return y, [each(torch.clone, anchor) if anchor is moved[0] else anchor, *moved]


def _segment(circuit: Circuit, bank: Bank, tokens: _Grid, anchor: Weights, moved: Sequence[Weights]) -> tuple[Tensor, list[Weights]]:
    """Queries of tokens between two boundaries, and weights and moments behind them."""
    rule, time = circuit.rule, tokens.x.shape[1]
    makers = len(bank.names) - ("memory" in bank.names)
    made = {**tokens.still, **bank.named(bank.read(anchor, tokens.x, makers)[2])}

    def vector(name: str) -> Tensor:
        return unit(made[name]) if name in rule.unit else made[name]

    def gate(name: str) -> Tensor:
        return circuit.rates.of(name, made[name].squeeze(-1) + tokens.biases[name])

    if tokens.q is not None:
        made["q"] = tokens.q
    k, v, q = vector("k"), vector("v"), vector("q")
    own = rule.targets == "self-generated"
    z, hidden, answers = bank.read(anchor, torch.cat([k, v], dim=1) if own else k, len(bank.names))
    said, own_values = ({group: units[:, :, at] for group, units in answers.items()} for at in (slice(time), slice(time, None)))
    targets = own_values if own else _shared(v)
    errors = {group: _error(rule, units, targets[group]) for group, units in said.items()}
    hidden = hidden[:, :, :time]
    errors = bank.errors(anchor, None if z is None else z[:, :, :time], errors)
    steps = Stretch.of(gate("eta"), gate("alpha") if rule.decay else None, tokens.momentum, tokens.active)
    return q, bank.write(moved, (k, hidden), errors, steps, Erasing.of(k, steps) if rule.update == "dgd" else None)


def _shared(v: Tensor) -> dict[str, Tensor]:
    """What all memories are held to, if it is the same for all: values [N, n, width], or one number of each."""
    return {"numbers": v.mean(-1, keepdim=True).unsqueeze(1), "vectors": v.unsqueeze(1)}


def _error(rule: SelfModifyingRule, answer: Tensor, target: Tensor) -> Tensor:
    """The gradient of the objective at the answers; what flows into the targets is for the outer gradient alone."""
    return answer - target if rule.objective == "l2" else -target.expand_as(answer)


def _answers(circuit: Circuit, weights: list[Params], queries: list[Tensor]) -> Tensor:
    """What the memory answers to the queries of segments, each at weights of its own; those that are equally long side by side."""
    outputs = []
    for _, same in groupby(zip(weights, queries, strict=True), key=lambda pair: pair[1].shape[1]):
        held, asked = zip(*same, strict=True)
        joined = {name: torch.stack([params[name] for params in held], dim=1) for name in held[0]}
        outputs.append(circuit.structure("memory").read(Plain(joined), torch.stack(asked, dim=1)).flatten(1, 2))
    return torch.cat(outputs, dim=1)


def at_rest(circuit: Circuit, views: Views, weights: Params) -> Tensor:
    """What the memory answers to each token [batch, time, heads, head_dim] if all memories stand still at these weights."""

    def read(name: str, x: Tensor) -> Tensor:
        held = part(weights, name) if name in circuit.written else each(lambda w: w.to(x.dtype), circuit.still[name])
        return circuit.structure(name).read(Plain(held), x.transpose(1, 2)).transpose(1, 2)

    q = read("q", views.x) if views.q is None else views.q
    return read("memory", unit(q) if "q" in circuit.rule.unit else q)
