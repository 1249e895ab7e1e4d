"""Random streams for a rule, and running them: in one call or in many, by one engine or by several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from retain import MemoryRule, MemoryState, learner
from retain.core.engine import AbstractEngine
from retain.core.tokens import Tokens
from retain.engines import Recurrent
from tests.cases import Case
from tests.tolerances import GRADIENTS, VALUES, assert_near

Calls = list[list[int]]  # for each call, how many tokens each row gets


@dataclass(frozen=True, kw_only=True, repr=False)
class World:
    """A rule, the initial weights of its memory, and a stretch of tokens for each row, the first ``lengths[b]`` of them real."""

    rule: MemoryRule
    initial: dict[str, Tensor]
    tokens: Tokens
    lengths: Tensor
    seed: int

    def cut(self, lengths: list[int], masked: bool) -> World:
        """The world with rows of these lengths, and with tokens that are not written."""
        draw = torch.rand(self.tokens.batch, self.tokens.time, generator=torch.Generator().manual_seed(self.seed + 1))
        return replace(self, tokens=replace(self.tokens, write=draw < 0.6 if masked else None), lengths=torch.tensor(lengths))

    def __repr__(self) -> str:
        k, v = self.tokens.k.shape, self.tokens.v.shape[-1]
        sizes = f"batch={k[0]}, time={k[1]}, heads={k[2]}, key={k[4]}, value={v}, pairs={k[3]}"
        return f"<world {self.seed} of {sizes}; lengths {self.lengths.tolist()}, {'all' if self.tokens.write is None else 'some'} written>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def leaves(self) -> World:
        """The same numbers as leaves of a new graph."""
        return replace(
            self,
            initial={name: w.detach().clone().requires_grad_() for name, w in self.initial.items()},
            tokens=self.tokens.map(lambda t: t.detach().clone().requires_grad_(t.is_floating_point())),
        )

    def inputs(self) -> dict[str, Tensor]:
        """Everything that a gradient can be asked of, by name."""
        gates = {field.name: getattr(self.tokens, field.name) for field in fields(Tokens)}
        return {**self.initial, **{name: t for name, t in gates.items() if t is not None and t.is_floating_point()}}

    @property
    def start(self) -> MemoryState:
        """The state before the stream, with the initial weights in another order as those of the other memory."""
        start = MemoryState.start(self.rule, self.initial, self.tokens.batch)
        return start if start.beside is None else replace(start, beside={name: 0.5 * w.flip(-1) for name, w in start.anchor.items()})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a stream: answers and surprises, zero where there is no token, and the state that was left behind, folded as far as it goes."""

    y: Tensor
    surprise: Tensor
    state: MemoryState

    def tensors(self) -> dict[str, Tensor]:
        return {"outputs": self.y, "surprise": self.surprise, **plain(self.state)}


# ---- drawing


@st.composite
def worlds(draw: st.DrawFn, case: Case, longest: int = 13, ragged: bool = True, masked: bool = True) -> World:
    """Small worlds of a case: rows, heads, widths, pairs, lengths and masks are drawn, numbers come from a drawn seed."""
    integer = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    batch, heads, key = integer(1, 3), integer(1, 2), integer(3, 4)
    value = key if case.square else integer(2, 4)
    time = integer(0, longest)
    lengths = [integer(0, time) for _ in range(batch)] if ragged and draw(st.booleans()) else [time] * batch
    return world(case.rule, integer(0, 2**20), batch=batch, time=time, heads=heads, key=key, value=value, pairs=integer(1, 2)).cut(
        lengths, draw(st.booleans()) if masked else False
    )


def world(
    rule: MemoryRule,
    seed: int,
    *,
    batch: int = 2,
    time: int = 10,
    heads: int = 2,
    key: int = 3,
    value: int = 3,
    pairs: int = 1,
    dtype: torch.dtype = torch.float64,
) -> World:
    """Tokens whose keys have length one, with gates that are often exactly 0 or 1, and an initial memory that is not at rest."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64).to(dtype)

    def gate(*shape: int, low: float = 0.0) -> Tensor:
        share, extreme = (torch.rand(*shape, generator=source, dtype=torch.float64) for _ in range(2))
        share = low + (1 - low) * share
        return torch.where(extreme < 0.1, 0.0, torch.where(extreme > 0.9, 1.0, share)).to(dtype)

    lead = (batch, time, heads)
    pairs = max(pairs, 2) if rule.learner.in_turn else 1 if isinstance(rule.learner, learner.Implicit) else pairs
    k, q = normal(*lead, pairs, key), normal(*lead, key)
    mixed, orders, kept = rule.learner.mixed, rule.learner.moments, rule.retention.gate
    tokens = Tokens(
        k=k / k.norm(dim=-1, keepdim=True),
        v=normal(*lead, pairs, value),
        q=q / q.norm(dim=-1, keepdim=True),
        lr=0.1 * gate(*lead, pairs),
        momentum=0.9 * gate(*lead, orders) if orders else None,
        mix=normal(*lead, mixed).softmax(-1) if mixed else None,
        retain={"none": None, "head": gate(*lead, low=0.5), "channel": gate(*lead, key, low=0.5), "outer": gate(*lead, key + value, low=0.5)}[kept],
    )
    fresh = rule.structure.init(heads, key, value, source)
    initial = {name: w.to(dtype) + 0.3 * normal(*w.shape) for name, w in fresh.items()}
    if rule.learner.scale_max:
        tokens = replace(tokens, scales=gate(*lead, len(initial)))
    if rule.learner.channel_max:
        tokens = replace(tokens, channels=rule.learner.channel_max * gate(*lead, key))
    if rule.bias.gate != "none":
        tokens = replace(tokens, threshold=2 * gate(*lead, pairs, *([value] if rule.bias.gate == "channel" else [])))
    if rule.bias.window > 1:
        tokens = replace(tokens, share=gate(*lead, rule.bias.window * pairs))
    if rule.anchor.transition == "gated":
        tokens = replace(tokens, transition=gate(*lead))
    if rule.anchor.residual == "weights":
        tokens = replace(tokens, residual=gate(*lead))
    return World(rule=rule, initial=initial, tokens=tokens, lengths=torch.full((batch,), time), seed=seed)


@st.composite
def calls(draw: st.DrawFn, lengths: Tensor) -> Calls:
    """Ways to hand rows of these lengths over: all at once, in even stretches, token by token, or by stretches of each row's own; some of them empty."""
    left = lengths.tolist()
    if draw(st.sampled_from([True, False, False])):
        return [left]
    if len(set(left)) == 1:
        kind = draw(st.sampled_from(["even", "single", "uneven"]))
    else:
        kind = "uneven"
    found: Calls = []
    while any(left):
        if kind == "uneven":
            taken = [draw(st.integers(0, min(rest, 9))) for rest in left]
            taken = taken if any(taken) else [min(rest, 1) for rest in left]
        else:
            size = 1 if kind == "single" else draw(st.integers(0 if found and any(found[-1]) else 1, left[0]))
            taken = [size] * len(left)
        left = [rest - size for rest, size in zip(left, taken, strict=True)]
        found.append(taken)
    return found or [[0] * len(left)]


# ---- running


def run(world: World, engines: Sequence[AbstractEngine], calls: Calls | None = None) -> Outcome:
    """The stream handed over in these calls, each to the next of the engines, round and round; None is one call."""
    calls = [world.lengths.tolist()] if calls is None else calls
    state, done = world.start, torch.zeros_like(world.lengths)
    answers: list[list[Tensor]] = [[] for _ in range(world.tokens.batch)]
    surprises: list[list[Tensor]] = [[] for _ in range(world.tokens.batch)]
    for i, taken in enumerate(calls):
        counts = torch.tensor(taken)
        y, state, surprise = engines[i % len(engines)].run(world.rule, stretch_of(world.tokens, done, counts), state, _or_none(counts))
        for b, size in enumerate(taken):
            answers[b].append(y[b, :size])
            surprises[b].append(surprise[b, :size])
        done = done + counts
    return Outcome(y=_rectangle(answers), surprise=_rectangle(surprises), state=settled(world, state, engines[0]))


def stretch_of(tokens: Tokens, start: Tensor, counts: Tensor) -> Tokens:
    """Of each row the tokens from ``start[b]`` on, as many as the longest row gets; what lies behind a row's own is of no account."""
    width = int(counts.max())
    if bool((start == start[0]).all()) and bool((counts == width).all()):
        return tokens.map(lambda t: t[:, int(start[0]) : int(start[0]) + width])
    if not tokens.time:
        return tokens
    index = (start[:, None] + torch.arange(width)).clamp(max=tokens.time - 1)
    return tokens.map(lambda t: t[torch.arange(t.shape[0])[:, None], index])


def _or_none(counts: Tensor) -> Tensor | None:
    """The argument ``lengths`` that is not needed where all rows get the same."""
    return None if bool((counts == counts[0]).all()) else counts


def _rectangle(rows: list[list[Tensor]]) -> Tensor:
    joined = [torch.cat(parts) for parts in rows]
    return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)


def settled(world: World, state: MemoryState, engine: AbstractEngine) -> MemoryState:
    """The state with everything folded that can be: the oracle reads no token."""
    nothing = world.tokens.map(lambda t: t[:, :0])
    return Recurrent(backprop=getattr(engine, "backprop", "full")).run(world.rule, nothing, state)[1]


def plain(state: MemoryState) -> dict[str, Tensor]:
    """The tensors of a settled state, in which what waits is blank behind a row's last token and spells out what is written."""
    found = {path: t for path, t in state.tensors() if not path.startswith("pending")}
    if state.pending is not None:
        waiting, count = state.pending.tokens, state.pending.count
        alive = torch.arange(waiting.time) < count[:, None]
        for name, t in {**vars(waiting), "write": waiting.written}.items():
            if t is not None:
                real = alive.reshape(alive.shape + (1,) * (t.ndim - 2))
                found[f"pending.{name}"] = torch.where(real, t, torch.zeros((), dtype=t.dtype))
        found["pending.count"] = count
    return found


# ---- comparing


def assert_same(actual: Outcome, expected: Outcome, tolerance: dict[torch.dtype, float] = VALUES) -> None:
    """Outputs, surprise and state agree."""
    ours, theirs = actual.tensors(), expected.tensors()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert_near(ours[name], value, tolerance, name)


def gradients(world: World, outcome: Outcome) -> dict[str, Tensor]:
    """The gradient, at every input, of a random linear functional of outputs, surprise and state."""
    source = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=outcome.y.dtype)
    for _, value in sorted(outcome.tensors().items()):
        if value.is_floating_point():
            total = total + (value * torch.randn(value.shape, generator=source, dtype=value.dtype)).sum()
    inputs = world.inputs()
    found = torch.autograd.grad(total, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(inputs, found, strict=True))


def assert_same_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every gradient agrees."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_near(actual[name], value, GRADIENTS, f"gradient of {name}")


def assert_equals_oracle(world: World, engines: Sequence[AbstractEngine], calls: Calls | None = None) -> None:
    """Whatever the calls and whoever runs them: the answers, surprises, state and gradients of the oracle in one call."""
    ours, theirs = world.leaves(), world.leaves()
    mine, truth = run(ours, engines, calls), run(theirs, [Recurrent(backprop=getattr(engines[0], "backprop", "full"))])
    assert_same(mine, truth)
    assert_same_gradients(gradients(ours, mine), gradients(theirs, truth))
