"""One token for every row: what ``dual`` does for a tile, without any of the bookkeeping that only tiles need."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.contracts import AbstractBoundaryRetention
from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.state import MemoryState, Pending
from retain.core.tokens import Tokens

from .coefficients import compose, nothing_done, scales_of
from .factored import DualReader, capture, fold, read_at, scaled
from .heads import cells_first, cut_rows, flat, heads_first, per_token, tokens_first, unflat
from .stream import part_way


def decodes(tokens: Tokens, state: MemoryState, tile: int, period: int) -> bool:
    """Whether these are single tokens of rows that all stand at the same place of a tile of ``tile`` tokens."""
    if tokens.time != 1 or not bool((state.clock == state.clock[0]).all()):
        return False
    waiting = 0 if state.pending is None else state.pending.tokens.time
    if state.pending is not None and not (state.pending.factors and waiting < tile and bool((state.pending.count == waiting).all())):
        return False
    return (int(state.clock[0]) - waiting) % period == 0


def decode(rule: MemoryRule, tokens: Tokens, state: MemoryState, tile: int, backprop: str) -> tuple[Tensor, MemoryState, Tensor]:
    """Take the token's gradient at the anchor, put it to those that wait, and read at their sum; fold them all when the tile is full."""
    heads, pairs = tokens.k.shape[2:4]
    anchor, states = flat(state.anchor), [flat(part) for part in (state.accumulator, *state.moments)]
    factors, loss = capture(rule, rule.retention.expose(anchor, lead=1), cells_first(tokens.k), cells_first(tokens.targets))
    before, held = nothing_done(states), 0
    if state.pending is None:
        waiting = replace(tokens, q=None)
    else:
        kept, old = state.pending.factors, state.pending.tokens
        factors = {n: tuple(torch.cat([a.flatten(0, 1), b], dim=1) for a, b in zip(kept[n], parts, strict=True)) for n, parts in factors.items()}
        if (old.write is None) != (tokens.write is None):
            old, tokens = replace(old, write=old.written), replace(tokens, write=tokens.written)
        waiting, held = Tokens.zip(lambda a, b: torch.cat([a, b], dim=1), [old, tokens]), old.time
        composition = state.pending.composition
        before = compose(rule, before, old, 0) if composition is None else composition.flatten(0, 1)
    after = compose(rule, before, waiting, held)

    used = after if rule.reads == "after" else F.pad(before, (0, pairs))
    assert tokens.q is not None
    q, cells = heads_first(tokens.q), scaled(factors, scales_of(rule, waiting))
    y = read_at(rule, anchor, DualReader(states, cells, used[:, :1, : len(states)], used[:, :1, len(states) :]), q)
    clock, surprise = state.clock + 1, tokens_first(per_token(loss, pairs), heads)
    if held + 1 < tile:
        parts = {n: tuple(f.unflatten(0, (-1, heads)) for f in each) for n, each in factors.items()}
        pending = Pending(tokens=waiting, count=torch.full_like(clock, held + 1), factors=parts, composition=after.unflatten(0, (-1, heads)))
        return tokens_first(y, heads), replace(state, clock=clock, pending=pending), surprise
    states = fold(states, cells, after[:, :, : len(states)], after[:, :, len(states) :])
    if rule.update_every is not None and int(clock[0]) % rule.update_every == 0:
        if rule.anchor.transition == "gated":
            states[0] = part_way(anchor, states[0], None if tokens.transition is None else tokens.transition[:, 0].flatten())
        if rule.reads == "after" and (rule.anchor.transition == "gated" or isinstance(rule.retention, AbstractBoundaryRetention)):
            y = rule.structure.read(Plain(rule.retention.expose(states[0], lead=1)), q)
        states = cut_rows(torch.ones_like(clock, dtype=torch.bool), states) if backprop == "segment" else states
        anchor = states[0]
    back = [unflat(part, heads) for part in (anchor, *states)]
    return tokens_first(y, heads), replace(state, anchor=back[0], accumulator=back[1], moments=tuple(back[2:]), clock=clock, pending=None), surprise
