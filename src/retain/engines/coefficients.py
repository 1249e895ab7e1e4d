"""What the weights at each token are made of, when learner and retention are linear: numbers computed from the gates alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.core.contracts import AbstractAffineBias, AbstractBoundaryRetention, AbstractLinearLearner, AbstractScalarRetention
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.tokens import Step, Tokens
from retain.numerics import products, running

from .heads import heads_first


@dataclass(frozen=True)
class Coefficients:
    """Tables over the n steps of a tile; row r describes the memory after r of its steps. N memories, M states, n steps."""

    states: Tensor  # [N, n + 1, M]
    steps: Tensor  # [N, n + 1, n]
    next_states: Tensor  # [N, M, M]: row m says what state m is made of when the tile is complete
    next_steps: Tensor  # [N, M, n]


def tabulate(rule: MemoryRule, steps: Step, active: Tensor) -> Coefficients:
    """The tables of steps with these gates [N, n, ...], of which those that are not ``active`` [N, n] do not happen."""
    learner, retention = rule.learner, rule.retention
    assert isinstance(learner, AbstractLinearLearner)
    assert isinstance(retention, (AbstractScalarRetention, AbstractBoundaryRetention))
    with torch.autocast(active.device.type, enabled=False):  # a share of 0.9997 cannot be told in bfloat16
        return _tabulate(learner, retention, steps, active)


def _tabulate(
    learner: AbstractLinearLearner, retention: AbstractScalarRetention | AbstractBoundaryRetention, steps: Step, active: Tensor
) -> Coefficients:
    response = learner.response(steps, active)
    ratio = torch.where(active > 0, retention.ratio(steps.retain, active), 1.0)
    decay = products(ratio)
    lead = active.shape[:-1]
    of_states = torch.cat([running(ratio, decay).unsqueeze(-1), decay @ response.delta_from_moments], dim=-1)
    of_steps = decay @ response.delta_from_updates
    untouched = torch.zeros_like(of_states[..., :1, :])
    untouched[..., 0] = 1.0
    none = of_states.new_zeros(*lead, response.moments_from_moments.shape[-1], 1)
    return Coefficients(
        states=torch.cat([untouched, of_states], dim=-2),
        steps=torch.cat([torch.zeros_like(of_steps[..., :1, :]), of_steps], dim=-2),
        next_states=torch.cat([of_states[..., -1:, :], torch.cat([none, response.moments_from_moments], dim=-1)], dim=-2),
        next_steps=torch.cat([of_steps[..., -1:, :], response.moments_from_updates], dim=-2),
    )


def nothing_done(states: list[Params]) -> Tensor:
    """What each of the states is made of before any step: itself [N, M, M]."""
    like = next(iter(states[0].values()))
    return torch.eye(len(states), dtype=like.dtype, device=like.device).expand(like.shape[0], -1, -1)


def compose(rule: MemoryRule, composition: Tensor, tokens: Tokens, before: int) -> Tensor:
    """What the states are made of behind the tokens, the first ``before`` of which are in ``composition`` already.

    Row m of a composition [N, M, M + cells] says how much of each of M states, and of each cell's gradient, is in state m. It obeys the rule of the
    weights themselves, so the rule is run on it.
    """
    every, pairs = rule.step_every, tokens.k.shape[3]
    gates = {name: gate for name in ("momentum", "mix", "retain") if (gate := getattr(tokens, name)) is not None}
    shares = shares_of(tokens).squeeze(1)
    ones = torch.ones_like(shares[:, :1]) if rule.learner.scale_max else None  # the scales are in the gradients already
    composition = F.pad(composition, (0, (tokens.time - before) * pairs))
    for stop in range((before // every + 1) * every, tokens.time + 1, every):
        step = Step(**{name: gate[:, stop - 1].flatten(0, 1) for name, gate in gates.items()}, scales=ones)
        first, last = (stop - every) * pairs, stop * pairs
        update = F.pad(shares[:, first:last], (composition.shape[1] + first, (tokens.time - stop) * pairs))
        parts = [{"": part} for part in composition.unbind(1)]
        moments = rule.learner.accumulate(tuple(parts[1:]), {"": update}, step)
        accumulator = rule.retention.keep(parts[0], step)[""] + rule.learner.expose(moments, {"": update}, step)[""]
        after = torch.stack([accumulator, *(part[""] for part in moments)], dim=1)
        if tokens.write is not None:
            active = tokens.write[:, stop - every : stop].any(1).repeat_interleave(tokens.k.shape[2])
            after = torch.where(active[:, None, None], after, composition)
        composition = after
    return composition


def steps_of(rule: MemoryRule, tokens: Tokens) -> tuple[Step, Tensor]:
    """The gates of each step of tokens that lie on a grid of whole steps [N, n, ...], and which steps are active [N, n]."""
    every, heads = rule.step_every, tokens.k.shape[2]
    steps = tokens.of_step(lambda gate: heads_first(gate[:, every - 1 :: every]))
    active = tokens.written.unflatten(1, (-1, every)).any(-1).repeat_interleave(heads, dim=0)
    return steps, active.to(tokens.lr.dtype)


def fill_step(tokens: Tokens, every: int) -> Tokens:
    """The tokens with dead ones behind them up to a whole number of steps."""
    missing = -tokens.time % every
    if not missing:
        return tokens
    tokens = replace(tokens, write=tokens.written)
    return tokens.map(lambda x: torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1))


def scales_of(rule: MemoryRule, tokens: Tokens) -> Tensor | None:
    """What each cell's gradient of each weight is multiplied by, in tokens that lie on a grid of steps [N, cells, weights]; None if by nothing."""
    if not rule.learner.scale_max:
        return None
    if tokens.scales is None:
        raise ValueError(f"{type(rule.learner).__name__} needs a `scales` gate with each token, got None.")
    every = rule.step_every
    by_step = heads_first(fill_step(tokens, every).scales[:, every - 1 :: every])  # pyright: ignore[reportOptionalSubscript]
    return by_step.repeat_interleave(every * tokens.k.shape[3], dim=1)[:, : tokens.time * tokens.k.shape[3]]


def mean_rates(rule: MemoryRule, tokens: Tokens) -> Tensor:
    """The mean learning rate of what each step writes, zero if it writes nothing, in tokens that lie on a grid of whole steps [N, n]."""
    written = tokens.written[:, :, None, None].expand_as(tokens.lr).to(tokens.lr)
    rates, written = (heads_first(x).flatten(1).unflatten(1, (-1, rule.step_every * x.shape[-1])).sum(-1) for x in (tokens.lr * written, written))
    return rates / written.clamp(min=1)


def shares_of(tokens: Tokens, rates: Literal["before", "after"] = "before") -> Tensor:
    """The weight of each cell in its step: its learning rate (or one, if rates come after), or nothing if it is not written [N, 1, cells]."""
    lr = tokens.lr if rates == "before" else torch.ones_like(tokens.lr)
    lr = lr if tokens.share is None else lr * tokens.share
    lr = lr if tokens.write is None else lr * tokens.write[:, :, None, None]
    return heads_first(lr).flatten(1).unsqueeze(1)


def curvature_of(rule: MemoryRule, k: Tensor, shares: Tensor) -> Tensor:
    """The curvature of each step's loss in a matrix memory, for keys [..., n, key] of shares [..., n]: [..., key, key]."""
    assert isinstance(rule.bias, AbstractAffineBias)
    return rule.bias.slope * (k * shares.unsqueeze(-1)).transpose(-1, -2) @ k
