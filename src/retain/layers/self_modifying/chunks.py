"""Self-modifying memories chunk by chunk: all tokens of a chunk at once, all memories side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.reader import Plain
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.trees import each
from retain.numerics import Layout, unit
from retain.numerics.rank_one import Erasing, Stretch

from .bank import Bank, Weights
from .rule import Circuit, SelfModifyingRule, Views, in_every_row, part


def in_chunks(circuit: Circuit, views: Views, state: MemoryState, lengths: Tensor) -> tuple[Tensor, MemoryState]:
    """What ``token_by_token`` gives, many tokens at once.

    Everything that a token brings is made at weights that stand still until the next boundary. So a chunk is two readings of all memories, one of its
    tokens and one of their keys and values, a triangular system for the keys, and one step that is all of its steps.

    Args:
        circuit: What is run.
        views: The tokens.
        state: Where each row stands.
        lengths: How many of the tokens each row has [batch], on the host; those behind are answered with zero.
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
    weights, anchor = bank.gather(state.accumulator), bank.gather(state.anchor)
    moments = bank.gather(state.moments[0]) if state.moments else None
    bounds = {first, layout.cells, *(cell for size in sizes.values() for cell in range(first - first % size + size, layout.cells, size))}
    answering, queries = [], []
    for start, stop in pairwise(sorted(bounds)):
        answering.append(bank.alone("memory", anchor) if "memory" in bank.names else _still(circuit, "memory", state.batch))
        weights, moments, q = _segment(circuit, bank, grid.part(start, stop), (anchor, weights, moments))
        queries.append(q)
        ended = (layout.offset < stop) & (stop <= layout.end)
        over = {name: ended if stop % size == 0 else torch.zeros_like(ended) for name, size in sizes.items()}
        if all(bool(rows.all()) for rows in over.values()):
            anchor = weights
        elif any(bool(rows.any()) for rows in over.values()):
            turned = torch.stack([over["memory" if name == "memory" else "projections"] for name in bank.names], dim=1)
            anchor = bank.where(turned.repeat_interleave(heads, dim=0).to(views.x.device), weights, anchor)
    y = _answers(circuit, answering, queries).unflatten(0, (-1, heads)).transpose(1, 2)
    after = replace(
        state,
        accumulator=bank.scatter(weights, heads),
        anchor=bank.scatter(anchor, heads),
        moments=() if moments is None else (bank.scatter(moments, heads),),
        clock=state.clock + lengths,
    )
    return layout.take(F.pad(y, (0, 0, 0, 0, first, 0)), time), after


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


def _still(circuit: Circuit, name: str, batch: int) -> Params:
    """The weights of a memory that stands still, for N heads of rows."""
    return each(lambda w: w.flatten(0, 1), in_every_row(circuit.still[name], batch))


def _segment(circuit: Circuit, bank: Bank, tokens: _Grid, state: tuple[Weights, Weights, Weights | None]) -> tuple[Weights, Weights | None, Tensor]:
    """Weights and moments behind tokens between two boundaries, and their queries. Before them are the weights that all is made with, those that are
    moved, and their moments.
    """
    (anchor, weights, moments), rule, time = state, circuit.rule, tokens.x.shape[1]
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
    z, hidden = (None if units is None else units[:, :, :time] for units in (z, hidden))
    errors = bank.errors(anchor, z, errors)
    steps = Stretch.of(gate("eta"), gate("alpha") if rule.decay else None, tokens.momentum, tokens.active)
    erasing = Erasing.of(k, steps) if rule.update == "dgd" else None
    weights, moments = bank.write(weights, moments, (k, hidden), errors, steps, erasing)
    return weights, moments, q


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
        held = part(weights, name) if name in circuit.written else circuit.still[name]
        return circuit.structure(name).read(Plain(held), x.transpose(1, 2)).transpose(1, 2)

    q = read("q", views.x) if views.q is None else views.q
    return read("memory", unit(q) if "q" in circuit.rule.unit else q)
