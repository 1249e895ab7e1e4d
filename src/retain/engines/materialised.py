"""The engine for everything else, and for steps of many tokens: updates are written out, one for each inner step, and applied one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.contracts import AbstractLinearLearner
from retain.core.engine import AbstractEngine
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.tokens import Step, Tokens
from retain.numerics import Layout
from retain.numerics.ragged import trim

from .coefficients import curvature_of, fill_step, mean_rates, shares_of, steps_of
from .company import among_their_own, context_after, place_of_query
from .factored import Factors, capture
from .heads import cells_first, cut_rows, flat, heads_first, per_token, pick_rows, tokens_first, unflat
from .passages import in_passages
from .stream import Joined, moves_anchor, part_way, pending_after, tile_of


@dataclass(frozen=True, kw_only=True)
class Materialised(AbstractEngine):
    """Runs every rule whose structure speaks the readers' vocabulary: gradients of a segment together, then step by step as the rule says.

    It builds one set of weights for each inner step, so it is at its best where steps are long.

    Args:
        tile: Tokens whose gradients are taken together where the rule leaves that open; never changes the answer.
        recompute: Tiles whose intermediate results are computed again in the backward pass, together; 0 keeps everything.
        backprop: ``"full"`` lets gradients flow through every write; ``"segment"`` cuts them off at each boundary.

    Examples:
        >>> from retain import presets
        >>> Materialised().why_not(presets.atlas()) is None
        True
    """

    name = "materialised"
    tile: int = 512
    recompute: int = 2
    backprop: Literal["full", "segment"] = "full"

    def refusal(self, rule: MemoryRule) -> str | None:
        return None

    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        if tokens.time == 0:
            return tokens.v[:, :, :, 0], state, tokens.lr.sum(-1)
        joined, every = Joined.of(tokens, state, lengths), rule.step_every
        if bool((joined.lengths < every).all()):
            return _wait(rule, state, joined)
        size = tile_of(rule, self.tile)
        layout = Layout(state.folded % (every if rule.update_every is None else size), joined.lengths, size)
        heads, count = tokens.k.shape[2], 1 + len(state.moments)
        placed = replace(joined.tokens, write=joined.tokens.written).map(layout.place)
        assert placed.q is not None
        together = None if state.context is None else among_their_own(rule, state.context, placed.q, layout.offset + joined.before)

        def run(tiles: range, anchor: Params, states: list[Params], tokens: Tokens) -> tuple[Tensor, Tensor, Params, list[Params]]:
            assert tokens.q is not None
            states, beside = states[:count], states[count:]
            reads, losses = _Reads(rule, heads_first(tokens.q if together is None else together), together is not None), []
            filled = fill_step(tokens, every)
            steps, active = steps_of(rule, filled)
            steps = steps if isinstance(rule.learner, AbstractLinearLearner) else replace(steps, lr=mean_rates(rule, filled))
            active = active.bool() & _complete(layout, tiles.start * size, every, active.shape[1]).repeat_interleave(heads, dim=0).to(active.device)
            happens, moves = active.any(0).tolist(), moves_anchor(rule, state, layout, tiles)
            pairs, cells = filled.k.shape[3], every * filled.k.shape[3]
            of_cells = (cells_first(filled.k), cells_first(filled.targets), shares_of(filled, rule.learner.rates).squeeze(1), _seen(filled))
            by_tile = (map(torch.Tensor.contiguous, x.split(size * pairs, dim=1)) for x in of_cells)
            for i, (k, v, shares, seen) in enumerate(zip(*by_tile, strict=True)):
                first = i * size // every
                exposed = rule.retention.expose(anchor, lead=1)
                point = rule.gradient_point(exposed, _at(steps, first), beside[0] if beside else None)
                if rule.structure.factored:
                    factors, loss = capture(rule, point, k, v)
                    updates = _updates(factors, shares, cells)
                else:
                    updates, loss = _whole_updates(rule, point, (k, v, shares, seen), cells)
                if beside:
                    loss = rule.loss(rule.structure.read(Plain(rule.retention.gradient_point(exposed, _at(steps, first)), seen), k), v)
                for j, update in enumerate(updates):
                    reads.until(i * size + (j + 1) * every - (rule.reads == "after"), states[0], anchor)
                    at = _at(steps, first + j)
                    if rule.learner.curved:
                        of_step = slice(j * cells, (j + 1) * cells)
                        at = replace(at, curvature=curvature_of(rule, k[:, of_step], shares[:, of_step]))
                    states = _step(rule, states, update, at, active[:, first + j]) if happens[first + j] else states
                losses.append(per_token(loss, pairs))
                moved = moves[i]
                if bool(moved.any()):
                    if rule.anchor.transition == "gated":
                        gate = None if tokens.transition is None else tokens.transition[:, (i + 1) * size - 1].flatten()
                        states = [pick_rows(moved, [part_way(anchor, states[0], gate)], states[:1])[0], *states[1:]]
                    if self.backprop == "segment":
                        reads.until((i + 1) * size, states[0], pick_rows(moved, [states[0]], [anchor])[0])
                        states = cut_rows(moved, states)
                    anchor = pick_rows(moved, [states[0]], [anchor])[0]
            reads.until(tokens.time, states[0], anchor)
            return torch.cat(reads.outputs, dim=1), torch.cat(losses, dim=1), anchor, [*states, *beside]

        states = [flat(part) for part in (state.accumulator, *state.moments, *([] if state.beside is None else [state.beside]))]
        y, losses, anchor, states = in_passages(
            run, layout.tiles, size, self.recompute if together is None else 0, flat(state.anchor), states, placed
        )
        y, surprise = (layout.take(tokens_first(x, heads), joined.tokens.time) for x in (y, losses))
        y, surprise = (trim(x, joined.before, joined.time) for x in (y, surprise))
        back = [unflat(part, heads) for part in (anchor, *states[:count])]
        clock = state.clock + joined.lengths - joined.before
        after = replace(state, anchor=back[0], accumulator=back[1], moments=tuple(back[2:]), clock=clock)
        if state.context is not None and tokens.q is not None:
            context = context_after(rule, state.context, tokens.q, state.clock, joined.lengths - joined.before)
            after = replace(after, recent={**after.recent, "q": context})
        return y, replace(after, pending=pending_after(joined, clock % every)), surprise


def _complete(layout: Layout, start: int, every: int, steps: int) -> Tensor:
    """Which steps of a tile that begins at a cell have all their tokens, row by row [batch, steps]."""
    return start + every * torch.arange(1, steps + 1) <= layout.end[:, None]


class _Reads:
    """Answers queries [N, time, key] in their order, as many together as read the same memory.

    Those that see each other stand in the cells of a step; with rules that read after the step there is one cell more in front.
    """

    def __init__(self, rule: MemoryRule, q: Tensor, together: bool) -> None:
        self.rule, self.q, self.done = rule, q, 0
        self.ahead, self.group = (int(rule.reads == "after"), rule.step_every) if together else (0, 1)
        self.outputs: list[Tensor] = []

    def until(self, stop: int, accumulator: Params, anchor: Params) -> None:
        """Answer the next queries, up to ``stop``."""
        done, stop = self.done + self.ahead, stop + self.ahead
        first = done - done % self.group
        queries = self.q[:, first:stop]
        if queries.shape[1] > done - first:
            self.outputs.append(self.rule.structure.read(Plain(self.rule.retention.read(accumulator, anchor, lead=1)), queries)[:, done - first :])
        self.done = max(done, stop) - self.ahead


def _wait(rule: MemoryRule, state: MemoryState, joined: Joined) -> tuple[Tensor, MemoryState, Tensor]:
    """Tokens that complete no step: they are answered, and put to those that wait."""
    tokens = joined.tokens.map(lambda x: trim(x, joined.before, joined.time))  # with nothing behind a row's last one
    assert tokens.q is not None
    heads, (anchor, weights) = (
        tokens.k.shape[2],
        (flat(part) for part in (rule.retention.expose(state.anchor), rule.retention.read(state.accumulator, state.anchor))),
    )
    after = replace(state, clock=state.clock + joined.lengths - joined.before, pending=pending_after(joined, joined.lengths))
    if state.context is None:
        y = tokens_first(rule.structure.read(Plain(weights), heads_first(tokens.q)), heads)
        seen, new = None, tokens
    else:  # all of a step's keys, and all queries that read the same memory, of which these are some
        context = context_after(rule, state.context, tokens.q, state.clock, joined.lengths - joined.before)
        y = tokens_first(rule.structure.read(Plain(weights), heads_first(context)), heads)
        y, after = trim(y, place_of_query(rule, state.clock), tokens.time), replace(after, recent={**after.recent, "q": context})
        seen, new = _seen(joined.tokens), joined.tokens
    loss = rule.loss(rule.structure.read(Plain(anchor, seen), cells_first(new.k)), cells_first(new.targets))
    surprise = tokens_first(per_token(loss, tokens.k.shape[3]), heads)
    return y, after, surprise if new is tokens else joined.new(surprise, like=surprise)


def _seen(tokens: Tokens) -> Tensor:
    """Which cells later ones of their step may see [N, cells]."""
    return tokens.seen.flatten(1).repeat_interleave(tokens.k.shape[2], dim=0)


def _whole_updates(rule: MemoryRule, point: Params, cells: tuple[Tensor, ...], each_step: int) -> tuple[list[Params], Tensor]:
    """What ``_updates`` gives, and the losses, for a structure that can only be called as a whole. ``cells`` are keys, values, shares and what is seen
    [N, cells, ...].
    """

    def objective(weights: dict[str, Tensor], k: Tensor, v: Tensor, shares: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        loss = rule.loss(rule.structure.read(Plain(weights, seen), k), v)
        return (shares * loss).sum(), loss

    gradient = torch.func.vmap(torch.func.grad(objective, has_aux=True))
    steps = [gradient(dict(point), *here) for here in zip(*(part.split(each_step, dim=1) for part in cells), strict=True)]
    return [update for update, _ in steps], torch.cat([loss for _, loss in steps], dim=1)


def _updates(factors: Factors, shares: Tensor, cells: int) -> list[Params]:
    """The weighted sum of the gradients of each step, for shares [N, cells]: a list over steps of weights [N, ...]."""
    written: dict[str, tuple[Tensor, ...]] = {}
    for name, parts in factors.items():
        weighted = parts[-1] * shares.unsqueeze(-1)
        missing = -weighted.shape[1] % cells
        blocks = [(F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(1, (-1, cells)) for x in (*parts[:-1], weighted)]
        total = blocks[0].sum(2) if len(parts) == 1 else blocks[0].transpose(2, 3) @ blocks[1]
        written[name] = total.unbind(1)
    return [{name: parts[j] for name, parts in written.items()} for j in range(len(next(iter(written.values()))))]


def _step(rule: MemoryRule, states: list[Params], update: Params, step: Step, active: Tensor) -> list[Params]:
    accumulator, moments = states[0], tuple(states[1:])
    moved = rule.learner.accumulate(moments, update, step)
    new = [rule.retention.moved(accumulator, rule.learner.expose(moved, update, step), step, lead=1), *moved]
    return pick_rows(active, new, states)


def _at(steps: Step, j: int) -> Step:
    return Step(**{name: None if gate is None else gate[:, j] for name, gate in vars(steps).items()})
