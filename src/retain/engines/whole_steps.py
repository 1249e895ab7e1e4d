"""Memories whose step is a whole segment: nothing is read between the weights of two steps, so that neither tables nor dual reads are needed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retain.core.reader import Plain
from retain.core.rule import MemoryRule
from retain.core.shapes import Params
from retain.core.tokens import Step, Tokens
from retain.core.trees import each

from .coefficients import scales_of, shares_of
from .factored import Factors, capture, scaled
from .heads import cells_first, heads_first, per_token, pick_rows
from .stream import part_way


def takes_whole_steps(rule: MemoryRule) -> bool:
    """Whether each step of the rule is a segment by itself."""
    return rule.step_every == rule.update_every


def step_by_step(
    rule: MemoryRule,
    states: list[Params],
    tokens: Tokens,
    cells: int,
    moved: Callable[[int], Tensor],
    cut: Callable[[Tensor, list[Params]], list[Params]] | None,
) -> tuple[Tensor, Tensor, list[Params], Factors]:
    """Some steps, one after the other: all tokens of a step read what the step before it left behind, but for the last one where reads come after.

    Args:
        rule: One that ``takes_whole_steps``.
        states: The accumulator and the moments before the first step, each [N, ...].
        tokens: Those of whole steps, the last of which may be dead.
        cells: How many of them are there.
        moved: Of each step, counted from 0, which rows [batch] take it.
        cut: Is handed the rows that took a step and the states behind it, which the last token of the step reads uncut; None leaves them.

    Returns:
        Outputs [N, cells, value], losses [N, cells], the states behind the last step, and its factors.
    """
    size, pairs, after = rule.step_every, tokens.k.shape[3], int(rule.reads == "after")
    assert tokens.q is not None
    q, k, v = heads_first(tokens.q), cells_first(tokens.k), cells_first(tokens.targets)
    shares, scales = shares_of(tokens).transpose(1, 2), scales_of(rule, tokens)
    steps = tokens.of_step(lambda gate: heads_first(gate[:, size - 1 :: size]))
    written = None if tokens.write is None else tokens.write.unflatten(1, (-1, size)).any(-1)
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    factors: Factors = {}
    point, read = rule.retention.expose(states[0], lead=1), 0
    for i in range(tokens.time // size):
        start, stop = i * size, min((i + 1) * size, cells)
        here = slice(start * pairs, stop * pairs)
        factors, loss = capture(rule, point, k[:, here], v[:, here])
        losses.append(per_token(loss, pairs))
        until = min(start + size - after, cells)
        outputs.append(rule.structure.read(Plain(point), q[:, read:until]))
        rows, read = moved(i), until
        if bool(rows.any()):
            update = _update(scaled(factors, None if scales is None else scales[:, here]), shares[:, here])
            step = Step(**{name: None if gate is None else gate[:, i] for name, gate in vars(steps).items()})
            new = _stepped(rule, states, update, step, None if written is None else written[:, i])
            if rule.anchor.transition == "gated":
                new[0] = part_way(states[0], new[0], step.transition)
            states = pick_rows(rows, new, states)
            point = rule.retention.expose(states[0], lead=1)
            if cut is not None:
                read = min(start + size, cells)
                outputs.append(rule.structure.read(Plain(point), q[:, until:read]))
                states = cut(rows, states)
                point = rule.retention.expose(states[0], lead=1)
    if read < cells:
        outputs.append(rule.structure.read(Plain(point), q[:, read:cells]))
    return torch.cat(outputs, dim=1), torch.cat(losses, dim=1), states, factors


def _update(factors: Factors, shares: Tensor) -> Params:
    """The gradients of all cells, each times its share [N, C, 1], added up."""
    update = {}
    for name, parts in factors.items():
        if len(parts) == 1:
            update[name] = (parts[0] * shares).sum(1)
        else:
            inputs, gradients = parts
            narrow = inputs.shape[-1] <= gradients.shape[-1]
            left, right = (inputs * shares, gradients) if narrow else (inputs, gradients * shares)
            update[name] = left.transpose(1, 2) @ right
    return update


def _stepped(rule: MemoryRule, states: list[Params], update: Params, step: Step, written: Tensor | None) -> list[Params]:
    """The states behind a step; as they were in rows of which nothing is written."""
    if rule.learner.scale_max:  # the scales are in the gradients already
        like = next(iter(update.values()))
        step = Step(momentum=step.momentum, mix=step.mix, retain=step.retain, scales=like.new_ones(like.shape[0], len(update)))
    moments = rule.learner.accumulate(tuple(states[1:]), update, step)
    accumulator = each(torch.add, rule.retention.keep(states[0], step), rule.learner.expose(moments, update, step))
    return [accumulator, *moments] if written is None else pick_rows(written, [accumulator, *moments], states)
