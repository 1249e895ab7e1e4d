"""What a token writes besides its own association, laid out so that engines need not know of it: the tokens before it, the way back from
values to keys, and steps in turn."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .rule import MemoryRule
from .state import MemoryState
from .tokens import StepGates, Tokens
from .trees import each


def spread(rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[MemoryRule, Tokens, MemoryState, Tensor | None]:
    """Rule, tokens, state and lengths as an engine takes them: no window, one step after another, and rates as they come to be."""
    if tokens.threshold is not None and rule.bias.gate == "none":
        raise ValueError(f"{type(rule.bias).__name__} has no threshold, but the tokens bring one; leave Tokens.threshold out.")
    if rule.bias.window > 1:
        tokens, state = _with_those_before(rule, tokens, state, lengths)
    if rule.bias.transposed:
        tokens = _turned_around(tokens)
    if rule.learner.in_turn:
        turns = tokens.k.shape[3]
        tokens, state = _in_turn(tokens, turns), replace(state, clock=state.clock * turns)
        lengths = None if lengths is None else lengths * turns
    rates = rule.learner.effective(tokens.lr, tokens.k, rule.bias)
    return rule.spread, tokens if rates is tokens.lr else replace(tokens, lr=rates), state, lengths


def gathered(rule: MemoryRule, tokens: Tokens, y: Tensor, state: MemoryState, surprise: Tensor) -> tuple[Tensor, MemoryState, Tensor]:
    """What an engine gives for tokens that were spread out, as it is for the tokens themselves."""
    if rule.bias.transposed:
        y = y[..., tokens.k.shape[-1] :]
    if not rule.learner.in_turn:
        return y, state, surprise
    turns = tokens.k.shape[3]
    y, surprise = (x.unflatten(1, (tokens.time, turns)) for x in (y, surprise))
    return y[:, :, -1 if rule.reads == "after" else 0], replace(state, clock=state.clock // turns), surprise.sum(2)


def _with_those_before(rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tokens, MemoryState]:
    """Tokens that write their window: as pairs, first their own, then those of the token before them, and so on."""
    window, device = rule.bias.window, tokens.k.device
    own = {"k": tokens.k, "v": tokens.v, "seen": tokens.seen, **({} if tokens.threshold is None else {"threshold": tokens.threshold})}
    blank = each(lambda x: x.new_zeros(tokens.batch, window - 1, *x.shape[2:]), own)
    both = {name: torch.cat([state.recent.get(name, blank[name]), x], dim=1) for name, x in own.items()}
    place, age = torch.arange(window - 1, window - 1 + tokens.time, device=device), torch.arange(window, device=device)
    cells = each(lambda x: x[:, place[:, None] - age], both)  # [batch, time, window, ...]
    seen = cells.pop("seen")
    pairs = {name: x.transpose(2, 3).flatten(3, 4) for name, x in cells.items()}  # [batch, time, heads, window * pairs, ...]
    share = seen.flatten(2).unsqueeze(2).to(tokens.lr).expand(*tokens.lr.shape[:3], -1)
    share = share if tokens.share is None else share * tokens.share
    spread_out = replace(
        tokens, **pairs, lr=tokens.lr.repeat(1, 1, 1, window), share=share, visible=None if state.context is None else seen.flatten(2)
    )
    ended = torch.full((tokens.batch,), tokens.time) if lengths is None else lengths
    last = ended.to(device)[:, None] + torch.arange(window - 1, device=device)
    kept = each(lambda x: x[torch.arange(tokens.batch, device=device)[:, None], last], both)
    return spread_out, replace(state, recent={**state.recent, **kept})


def _turned_around(tokens: Tokens) -> Tokens:
    """Tokens as ``BothWays`` takes them: keys are bound to values as values were to keys, and queries ask as before."""
    assert tokens.q is not None
    key, value = tokens.k.shape[-1], tokens.v.shape[-1]
    return replace(tokens, k=F.pad(tokens.v, (0, key)), v=F.pad(tokens.k, (0, value)), q=F.pad(tokens.q, (value, 0)))


def _in_turn(tokens: Tokens, turns: int) -> Tokens:
    """A step for each association. The first one forgets, the others keep all."""

    def own(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.movedim(3, 2).flatten(1, 2).unsqueeze(3)

    gates = {field.name: getattr(tokens, field.name) for field in fields(StepGates)}
    again = {name: gate.repeat_interleave(turns, dim=1) for name, gate in {**gates, "q": tokens.q, "write": tokens.write}.items() if gate is not None}
    if tokens.retain is not None:
        rest = torch.ones_like(tokens.retain).unsqueeze(2).expand(-1, -1, turns - 1, *tokens.retain.shape[2:])
        again["retain"] = torch.cat([tokens.retain.unsqueeze(2), rest], dim=2).flatten(1, 2)
    parts = {name: own(getattr(tokens, name)) for name in ("k", "v", "lr", "share", "threshold")}
    visible = None if tokens.visible is None else tokens.visible.flatten(1).unsqueeze(-1)
    return replace(tokens, **parts, **again, visible=visible)
