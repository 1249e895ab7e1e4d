"""The fast engine for deep memories: gradients stay factors, and reading is attention over the segment's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from retain.core.contracts import AbstractBoundaryRetention, AbstractLinearLearner, AbstractScalarRetention
from retain.core.engine import AbstractEngine
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.tokens import Step, Tokens
from retain.numerics import Layout
from retain.numerics.ragged import gather, join, trim

from .coefficients import Coefficients, fill_step, scales_of, shares_of, steps_of, tabulate
from .decoding import decode, decodes
from .factored import DualReader, Factors, capture, fold, read_at, scaled
from .heads import cells_first, cut_rows, flat, heads_first, per_token, pick_rows, tokens_first, unflat
from .passages import in_passages
from .stream import Joined, moves_anchor, part_way, pending_after, tile_of
from .whole_steps import step_by_step, takes_whole_steps


@dataclass(frozen=True, kw_only=True)
class Dual(AbstractEngine):
    r"""Runs any feed-forward structure whose learner and retention are linear, without ever building a token's weights.

    Between two boundaries all gradients are taken at one anchor, so each is an outer product, and the weights at token $t$ are
    $W_t = \sum_m s_{t,m} \mathrm{state}_m + \sum_i w_{t,i} u_i$ with coefficients that follow from the gates. A linear map of the memory then reads
    $x W_t = \sum_m s_{t,m} (x\, \mathrm{state}_m) + ((x K^\top) \odot w)\, d$. Source: TTT's dual form (appendix A), with momentum and forgetting as in
    Titans section 3.2.

    Args:
        tile: Cells worked on together where the rule leaves that open; never changes the answer.
        recompute: Tiles whose intermediate results are forgotten and computed again in the backward pass, together, once there are more than twice as
            many; 0 keeps everything.
        backprop: ``"full"`` lets gradients flow through every write; ``"segment"`` cuts them off at each boundary.

    Examples:
        >>> from retain import presets
        >>> Dual().why_not(presets.titans()) is None
        True
        >>> print(Dual().why_not(presets.atlas()))
        dual needs a learner that is linear in the gradients; Orthogonal is not.
    """

    name = "dual"
    tile: int = 128
    recompute: int = 16
    backprop: Literal["full", "segment"] = "full"

    def refusal(self, rule: MemoryRule) -> str | None:
        if not rule.structure.factored:
            return f"dual takes gradients in factors, which {type(rule.structure).__name__} does not give: it calls its network as a whole."
        if not isinstance(rule.learner, AbstractLinearLearner):
            return f"dual needs a learner that is linear in the gradients; {type(rule.learner).__name__} is not."
        if not isinstance(rule.retention, (AbstractScalarRetention, AbstractBoundaryRetention)):
            return (
                f"dual needs retention that multiplies the whole memory by one number between boundaries; {type(rule.retention).__name__} does not."
            )
        if rule.anchor.residual == "weights":
            return "dual takes all gradients of a segment at one point; with Anchor(residual='weights') each step has a point of its own."
        if rule.retention.grad_at == "decayed":
            return "dual takes all gradients of a segment at one point; gradients at the decayed memory are taken at another point for each token."
        return None

    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        if tokens.time == 0:
            return tokens.v[:, :, :, 0], state, tokens.lr.sum(-1)
        tile = tile_of(rule, self.tile)
        period = rule.step_every if rule.update_every is None else tile
        if lengths is None and decodes(tokens, state, tile, period):
            return decode(rule, tokens, state, tile, self.backprop)
        joined = Joined.of(tokens, state, lengths)
        layout = Layout(state.folded % period, joined.lengths, tile)
        work = _Work(rule, state, joined, layout, self.backprop)
        return work.within_one_tile() if layout.tiles == 1 and not takes_whole_steps(rule) else work.across_tiles(self.recompute)


@dataclass(frozen=True)
class _Work:
    """One call of the engine."""

    rule: MemoryRule
    state: MemoryState
    joined: Joined
    layout: Layout
    backprop: str

    def within_one_tile(self) -> tuple[Tensor, MemoryState, Tensor]:
        """Few tokens, perhaps one: take the gradients of the new ones only, and join them to those that the state keeps."""
        rule, state, joined, layout = self.rule, self.state, self.joined, self.layout
        anchor, states = flat(state.anchor), [flat(p) for p in (state.accumulator, *state.moments)]
        pairs, kept = joined.tokens.k.shape[3], None if state.pending is None else state.pending.factors
        fresh = joined.before if kept or state.pending is None else torch.zeros_like(joined.before)
        time = joined.time if kept or state.pending is None else joined.tokens.time
        k, v = (cells_first(trim(x, fresh, time)) for x in (joined.tokens.k, joined.tokens.targets))
        factors, loss = capture(rule, rule.retention.expose(anchor, lead=1), k, v)
        if kept:
            count = joined.before.repeat_interleave(joined.tokens.k.shape[2]) * pairs
            factors = {n: tuple(join(a.flatten(0, 1), count, b) for a, b in zip(kept[n], factors[n], strict=True)) for n in factors}
        placed = fill_step(replace(joined.tokens, q=None, write=joined.tokens.written).map(layout.place), rule.step_every)
        table = tabulate(rule, *steps_of(rule, placed))
        shares = shares_of(placed)
        cells = scaled(_on_grid(factors, layout, pairs, placed.time), scales_of(rule, placed))

        heads = joined.tokens.k.shape[2]
        token = layout.offset[:, None] + joined.before[:, None] + torch.arange(joined.time)
        row = ((token + (rule.reads == "after")) // rule.step_every).clamp(max=table.states.shape[1] - 1).repeat_interleave(heads, dim=0)
        everything = torch.ones_like(row, dtype=torch.bool)
        of_states, of_steps = gather(table.states, row, everything), gather(table.steps, row, everything)
        assert joined.tokens.q is not None
        q = heads_first(trim(joined.tokens.q, joined.before, joined.time))
        y = read_at(rule, anchor, DualReader(states, cells, of_states, _spread(of_steps, rule, pairs) * shares), q)

        complete = layout.end == layout.tile
        if bool(complete.any()):
            after = self._fold(states, cells, table, shares, pairs, complete)
        else:
            after = states
        transition = None if placed.transition is None else heads_first(placed.transition[:, -1:])[:, 0]
        anchor, after, y = self._boundary(0, anchor, after, transition, q, y, joined.lengths - joined.before - 1)
        count = torch.where(complete, 0, joined.lengths)
        surprise = tokens_first(per_token(loss, pairs), heads)
        if time != joined.time:
            surprise = trim(surprise, joined.before, joined.time)
        width = int(count.max()) * pairs
        waiting = {n: tuple(f[:, :width].unflatten(0, (-1, heads)) for f in parts) for n, parts in factors.items()}
        return self._finish(y, surprise, anchor, after, complete, count, waiting)

    def across_tiles(self, group: int) -> tuple[Tensor, MemoryState, Tensor]:
        """Many tokens: lay them on the grid, and go from tile to tile."""
        state, joined, layout = self.state, self.joined, self.layout
        tokens = joined.tokens if layout.uniform and not bool(layout.offset.any()) else replace(joined.tokens, write=joined.tokens.written)
        placed = tokens.map(layout.place)
        heads, size, last = placed.k.shape[2], layout.tile, []
        anchor, states = flat(state.anchor), [flat(p) for p in (state.accumulator, *state.moments)]

        def run(tiles: range, anchor: Params, states: list[Params], tokens: Tokens) -> tuple[Tensor, Tensor, Params, list[Params]]:
            return self._passage(tiles, anchor, states, tokens, placed.time, last)

        whole = _pad(placed, layout.tiles * size - placed.time)
        y, losses, anchor, states = in_passages(run, layout.tiles, size, group if layout.tiles > 2 * group else 0, anchor, states, whole)
        complete = layout.end == layout.tiles * size
        y, surprise = (layout.take(tokens_first(x, heads), joined.tokens.time) for x in (y, losses))
        y, surprise = (trim(x, joined.before, joined.time) for x in (y, surprise))
        count = torch.where(complete, 0, _in_last_tile(layout))
        waiting: Mapping[str, tuple[Tensor, ...]] = {}
        if layout.uniform and bool(count.any()):
            width = int(count[0]) * placed.k.shape[3]
            waiting = {n: tuple(f[:, f.shape[1] - width :].unflatten(0, (-1, heads)) for f in parts) for n, parts in last[-1].items()}
        return self._finish(heads_first(y), surprise, anchor, states, complete, count, waiting)

    def _passage(
        self, tiles: range, anchor: Params, states: list[Params], tokens: Tokens, cells: int, last: list[Factors]
    ) -> tuple[Tensor, Tensor, Params, list[Params]]:
        """Some tiles, of which the first ``cells`` cells of the whole are there; the factors of the very last tile are left in ``last``."""
        rule, layout, size = self.rule, self.layout, self.layout.tile
        if takes_whole_steps(rule):
            return self._whole_steps(tiles, states, tokens, cells, last)
        pairs, amount = tokens.k.shape[3], len(tiles)
        steps, active = steps_of(rule, tokens)
        by_tile = {name: None if gate is None else gate.unflatten(1, (amount, -1)) for name, gate in vars(steps).items()}
        table = tabulate(rule, Step(**by_tile), active.unflatten(1, (amount, -1)))
        shares = shares_of(tokens).unflatten(-1, (amount, -1)).transpose(1, 2)
        of_states, of_steps = _rows(table, rule, size)
        of_cells = (_spread(of_steps, rule, pairs) * shares).unbind(1)
        next_cells = (_spread(table.next_steps, rule, pairs) * shares).unbind(1)
        of_states, next_states = of_states.unbind(1), table.next_states.unbind(1)
        assert tokens.q is not None
        q = heads_first(tokens.q).split(size, 1)
        k, v = (cells_first(x).split(size * pairs, 1) for x in (tokens.k, tokens.targets))
        scales = scales_of(rule, tokens)
        by_cell = [None] * amount if scales is None else scales.split(size * pairs, 1)
        crossed = None if tokens.transition is None else heads_first(tokens.transition[:, size - 1 :: size]).unbind(1)
        outputs, losses, point = [], [], rule.retention.expose(anchor, lead=1)
        for i, tile in enumerate(tiles):
            there = min(size, cells - tile * size)
            complete = layout.end >= (tile + 1) * size
            raw, loss = capture(rule, point, k[i][:, : there * pairs], v[i][:, : there * pairs])
            here = by_cell[i]
            factors = scaled(raw, None if here is None else here[:, : there * pairs])
            reader = DualReader(states, factors, of_states[i][:, :there], of_cells[i][:, :there, : there * pairs])
            outputs.append(read_at(rule, anchor, reader, q[i][:, :there]))
            losses.append(per_token(loss, pairs))
            if bool(complete.any()):
                states = pick_rows(complete, fold(states, factors, next_states[i], next_cells[i][..., : there * pairs]), states)
                gate, last_cell = None if crossed is None else crossed[i], torch.full_like(layout.end, size - 1)
                anchor, states, outputs[-1] = self._boundary(tile, anchor, states, gate, q[i], outputs[-1], last_cell)
                point = rule.retention.expose(anchor, lead=1)
            if tile == layout.tiles - 1:
                last.append(raw)
        return torch.cat(outputs, dim=1), torch.cat(losses, dim=1), anchor, states

    def _whole_steps(
        self, tiles: range, states: list[Params], tokens: Tokens, cells: int, last: list[Factors]
    ) -> tuple[Tensor, Tensor, Params, list[Params]]:
        """What ``_passage`` does, if each tile is one step."""
        first, there = tiles.start, min(tokens.time, cells - tiles.start * self.layout.tile)
        moved = moves_anchor(self.rule, self.state, self.layout, tiles)
        cut = cut_rows if self.backprop == "segment" else None
        y, losses, states, factors = step_by_step(self.rule, states, tokens, there, moved.__getitem__, cut)
        if first + len(tiles) == self.layout.tiles:
            last.append(factors)
        return y, losses, states[0], states

    def _boundary(
        self, tile: int, anchor: Params, states: list[Params], gate: Tensor | None, q: Tensor, y: Tensor, last: Tensor
    ) -> tuple[Params, list[Params], Tensor]:
        """What a boundary at the end of a tile does: the anchor, the states, and the outputs, token ``last`` [batch] of which reads what came of it."""
        rule, (moved,) = self.rule, moves_anchor(self.rule, self.state, self.layout, range(tile, tile + 1))
        if not bool(moved.any()):
            return anchor, states, y
        if rule.anchor.transition == "gated":
            states = [pick_rows(moved, [part_way(anchor, states[0], gate)], [states[0]])[0], *states[1:]]
        if rule.reads == "after" and (rule.anchor.transition == "gated" or isinstance(rule.retention, AbstractBoundaryRetention)):
            y = self._read_again(moved, last, rule.retention.expose(states[0], lead=1), q, y)
        states = cut_rows(moved, states) if self.backprop == "segment" else states
        return pick_rows(moved, [states[0]], [anchor])[0], states, y

    def _read_again(self, moved: Tensor, last: Tensor, weights: Params, q: Tensor, y: Tensor) -> Tensor:
        heads = y.shape[0] // len(moved)
        at = torch.where(moved, last, 0).repeat_interleave(heads)[:, None].to(y.device)
        new = self.rule.structure.read(Plain(weights), gather(q, at, torch.ones_like(at, dtype=torch.bool)))
        here = (torch.arange(y.shape[1], device=y.device) == at) & moved.to(y.device).repeat_interleave(heads)[:, None]
        return torch.where(here.unsqueeze(-1), new, y)

    def _fold(self, states: list[Params], cells: Factors, table: Coefficients, shares: Tensor, pairs: int, rows: Tensor) -> list[Params]:
        new = fold(states, cells, table.next_states, _spread(table.next_steps, self.rule, pairs) * shares)
        return pick_rows(rows, new, states)

    def _finish(
        self, y: Tensor, surprise: Tensor, anchor: Params, states: list[Params], complete: Tensor, count: Tensor, waiting: Factors
    ) -> tuple[Tensor, MemoryState, Tensor]:
        state, joined = self.state, self.joined
        heads = joined.tokens.k.shape[2]
        back = [unflat(part, heads) for part in (anchor, *states)]
        clock = state.clock + joined.lengths - joined.before
        pending = pending_after(joined, count, waiting)
        after = replace(state, anchor=back[0], accumulator=back[1], moments=tuple(back[2:]), clock=clock, pending=pending)
        return tokens_first(y, heads), after, surprise


def _rows(table: Coefficients, rule: MemoryRule, tokens: int) -> tuple[Tensor, Tensor]:
    """The rows of the tables that tokens 0, 1, ... of a tile read at."""
    if rule.step_every == 1:
        shift = slice(1, None) if rule.reads == "after" else slice(None, -1)
        return table.states[..., shift, :], table.steps[..., shift, :]
    row = (torch.arange(tokens, device=table.states.device) + (rule.reads == "after")) // rule.step_every
    return table.states.index_select(-2, row), table.steps.index_select(-2, row)


def _spread(of_steps: Tensor, rule: MemoryRule, pairs: int) -> Tensor:
    """Coefficients of steps as coefficients of the cells that make them."""
    each_step = rule.step_every * pairs
    return of_steps if each_step == 1 else of_steps.repeat_interleave(each_step, dim=-1)


def _on_grid(factors: Factors, layout: Layout, pairs: int, cells: int) -> Factors:
    """Factors of joined tokens [N, tokens * pairs, width] at the cells of their tokens [N, cells * pairs, width]."""
    if layout.uniform and not bool(layout.offset[0]):
        place = _same
    else:
        times = next(iter(factors.values()))[0].shape[0] // layout.phase.shape[0]
        place = Layout(layout.phase.repeat_interleave(times) * pairs, layout.lengths.repeat_interleave(times) * pairs, layout.tile * pairs).place
    return {name: tuple(_exactly(place(part), cells * pairs) for part in parts) for name, parts in factors.items()}


def _same(x: Tensor) -> Tensor:
    return x


def _exactly(x: Tensor, cells: int) -> Tensor:
    missing = cells - x.shape[1]
    return torch.cat([x, x.new_zeros(x.shape[0], missing, x.shape[2])], dim=1) if missing > 0 else x[:, :cells]


def _in_last_tile(layout: Layout) -> Tensor:
    """Tokens of each row that lie in the last tile [batch]."""
    return torch.minimum(layout.lengths, layout.end - (layout.tiles - 1) * layout.tile)


def _pad(tokens: Tokens, missing: int) -> Tokens:
    if not missing:
        return tokens
    tokens = replace(tokens, write=tokens.written)
    return tokens.map(lambda x: torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1))
