"""The meaning of self-modifying memories, token by token. Every gradient is autograd's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retain.core.reader import Plain
from retain.core.shapes import Params
from retain.core.state import MemoryState
from retain.core.trees import pick, stretch
from retain.numerics import unit

from .rule import NUMBERS, Circuit, Views, in_every_row, part


def token_by_token(circuit: Circuit, views: Views, state: MemoryState, lengths: Tensor) -> tuple[Tensor, MemoryState]:
    """What the memory answers to each token [batch, time, heads, head_dim], and the state behind them.

    Args:
        circuit: What is run.
        views: The tokens.
        state: Where each row stands.
        lengths: How many of the tokens each row has [batch], on the host; those behind are answered with zero.
    """
    outputs = []
    for t in range(views.x.shape[1]):
        alive = t < lengths
        y, after = _token(circuit, views.token(t), state)
        outputs.append(torch.where(stretch(alive.to(y.device), y), y, 0.0))
        state = _choose(alive, after, state)
    return (torch.stack(outputs, dim=1) if outputs else views.x), state


def _token(circuit: Circuit, token: Views, state: MemoryState) -> tuple[Tensor, MemoryState]:
    rule, still = circuit.rule, {name: in_every_row(weights, state.batch) for name, weights in circuit.still.items()}

    def read(name: str, x: Tensor) -> Tensor:
        weights = still[name] if name in still else part(state.anchor, name)
        return circuit.structure(name).read(Plain(weights), x.unsqueeze(-2)).squeeze(-2)

    def vector(name: str, x: Tensor) -> Tensor:
        return unit(x) if name in rule.unit else x

    def gate(name: str) -> Tensor:
        return circuit.rates.of(name, read(name, token.x).squeeze(-1) + circuit.biases[name])

    k, v = (vector(name, read(name, token.x)) for name in ("k", "v"))
    q = vector("q", read("q", token.x) if token.q is None else token.q)
    eta = gate("eta")
    alpha = gate("alpha") if rule.decay else torch.ones_like(eta)
    weights, moments = dict(state.accumulator), dict(state.moments[0]) if state.moments else {}
    for name in circuit.written:
        shared = v.mean(-1, keepdim=True) if name in NUMBERS else v
        target = read(name, v) if rule.targets == "self-generated" else shared
        gradient = _gradient(circuit, name, part(state.anchor, name), k, target)
        for i, (weight, g) in enumerate(gradient.items()):
            path = f"{name}_{weight}"
            push = -stretch(eta, g) * g
            if token.momentum is not None:
                push = moments[path] = stretch(token.momentum, g) * moments[path] + push
            factor = stretch(alpha, g) * torch.eye(g.shape[-2], dtype=g.dtype, device=g.device)
            if rule.update == "dgd" and i == 0:
                factor = factor - stretch(eta, g) * k.unsqueeze(-1) * k.unsqueeze(-2)
            weights[path] = factor @ weights[path] + push
    after = replace(state, accumulator=weights, moments=(moments,) if state.moments else ())
    if token.write is not None:
        after = _choose(token.write, after, state)
    after = replace(after, clock=state.clock + 1)
    anchor = dict(state.anchor)
    for path, old in anchor.items():
        over = after.clock % rule.chunk_of(path.split("_")[0]) == 0
        anchor[path] = torch.where(stretch(over.to(old.device), old), after.accumulator[path], old)
    return read("memory", q), replace(after, anchor=anchor)


def _gradient(circuit: Circuit, name: str, weights: Params, k: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The gradient of each memory's loss, for keys and targets [batch, heads, width]."""

    def loss(weights: Params, k: Tensor, target: Tensor) -> Tensor:
        answer = circuit.structure(name).read(Plain(weights), k.unsqueeze(0)).squeeze(0)
        return 0.5 * (answer - target).square().sum() if circuit.rule.objective == "l2" else -(answer * target).sum()

    return torch.func.vmap(torch.func.vmap(torch.func.grad(loss)))(dict(weights), k, target)


def _choose(rows: Tensor, yes: MemoryState, no: MemoryState) -> MemoryState:
    """Row by row; the clock goes with the rows."""
    rows_there = rows.to(next(iter(yes.accumulator.values())).device)
    moments = tuple(pick(rows_there, *pair) for pair in zip(yes.moments, no.moments, strict=True))
    kept = {name: pick(rows_there, getattr(yes, name), getattr(no, name)) for name in ("anchor", "accumulator")}
    return replace(yes, **kept, moments=moments, clock=torch.where(rows.cpu(), yes.clock, no.clock))
