"""Every part, and every rule that the laws are tried on. A new part needs one row in its table, and inherits all laws."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from retain import Anchor, MemoryRule, bias, learner, presets, retention, structure
from retain.core.contracts import (
    AbstractAffineBias,
    AbstractBias,
    AbstractChannelRetention,
    AbstractLearner,
    AbstractRetention,
    AbstractScalarRetention,
    AbstractStructure,
)
from retain.core.engine import AbstractEngine
from retain.engines.select import ENGINES
from retain.numerics import Activation


class Bend(nn.Module):
    """A module for inputs of any width: two numbers are its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.straight, self.bent = (nn.Parameter(torch.tensor(start, dtype=torch.float64)) for start in (0.7, 0.4))

    def forward(self, x: Tensor) -> Tensor:
        return self.straight * x + torch.tanh(self.bent * x)


ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

BARE: tuple[AbstractStructure, ...] = (
    structure.Matrix(),
    structure.MLP(depth=1),
    *(structure.MLP(depth=2, expansion=1.5, activation=name) for name in ACTIVATIONS),
    structure.MLP(depth=3, expansion=1.5, activation="tanh"),
    structure.MLP(depth=4, expansion=1.5, activation="silu"),
    *(structure.GatedMLP(expansion=1.5, activation=name) for name in ACTIVATIONS),
    *(structure.GatedResidualMLP(depth=depth, expansion=1.5) for depth in (1, 2)),
    *(structure.LowRankMLP(depth=depth, rank=2) for depth in (1, 2)),
)
STRUCTURES: tuple[AbstractStructure, ...] = (
    *BARE,
    *(structure.NormResidual(inner=inner) for inner in BARE),
    *(structure.ResidualGLU(depth=depth, expansion=1.5) for depth in (1, 2)),
    structure.ResidualMLP(expansion=1.5),
    structure.Module(module=Bend()),
    structure.AttentionMLP(expansion=1.5),
    structure.NormResidual(inner=structure.AttentionMLP(scale=2.0)),
)

BIASES: tuple[AbstractBias, ...] = (
    bias.L2(),
    bias.L2(scale=1.0),
    bias.Dot(),
    bias.Lp(),
    bias.Lp(p=1.0),
    bias.Lp(p=1.5, surrogate="consistent"),
    bias.Lp(p=3.0, surrogate="tanh", steepness=10.0),
    *(bias.Huber(kind=kind, threshold=0.7) for kind in ("coordinate", "norm", "mixture")),
    bias.Huber(threshold=0.7, scaled="by token"),
    bias.Huber(kind="coordinate", threshold=0.7, scaled="by channel"),
    bias.ShiftRobust(radius=0.3),
    bias.Omega(window=3),
    bias.Omega(inner=bias.Huber(threshold=0.7, scaled="by token"), window=2),
    bias.Omega(inner=bias.Huber(kind="coordinate", threshold=0.7, scaled="by channel"), window=2),
    bias.Transposed(),
    bias.Transposed(inner=bias.Huber(threshold=0.7, scaled="by token")),
    bias.Omega(inner=bias.Transposed(), window=2),
)

AFFINE: tuple[AbstractBias, ...] = tuple(held for held in BIASES if isinstance(held, AbstractAffineBias))

RETENTIONS: tuple[AbstractRetention, ...] = (
    retention.Keep(),
    retention.Decay(),
    retention.Decay(grad_at="decayed"),
    retention.ChannelDecay(),
    retention.ChannelDecay(grad_at="decayed"),
    retention.OuterDecay(),
    retention.OuterDecay(grad_at="decayed"),
    retention.ElasticNet(threshold=0.02),
    retention.ElasticNet(threshold=0.02, view="leader"),
    retention.ElasticNet(threshold=0.02, kind="smooth"),
    retention.Lq(),
    retention.Lq(q=1.5, link="exact"),
    retention.KL(),
    retention.KL(total=3.0, over="all"),
    *(retention.Bregman(potential=potential) for potential in ("square", "entropy", "sigmoid")),
    retention.Boundary(),
    retention.Boundary(inner=retention.KL()),
    retention.PerChannel(),
    retention.PerChannel(inner=retention.Lq(q=1.5, link="exact")),
    retention.PerChannel(inner=retention.KL()),
    retention.PerChannel(inner=retention.KL(total=3.0, over="all")),
    retention.FDivergence(),
    retention.FDivergence(f="kl", total=3.0),
)

LINEAR: tuple[AbstractRetention, ...] = tuple(gate for gate in RETENTIONS if isinstance(gate, (AbstractScalarRetention, AbstractChannelRetention)))

LEARNERS: tuple[AbstractLearner, ...] = (
    learner.Gradient(),
    *(learner.Momentum(order=order, mix=mix) for order in (1, 2, 3) for mix in ("last", "orders", "surprise")),
    learner.PerTensor(),
    learner.PerTensor(inner=learner.Momentum(order=2, mix="surprise")),
    learner.PerChannel(),
    learner.PerChannel(inner=learner.PerTensor(inner=learner.Gradient()), most=1.0),
    learner.InTurn(inner=learner.PerChannel(inner=learner.Gradient())),
    learner.Orthogonal(inner=learner.PerChannel(inner=learner.Clamp(norm=0.5))),
    learner.Clamp(norm=0.1),
    learner.Clamp(norm=0.1, kind="soft", inner=learner.Gradient()),
    learner.Orthogonal(),
    learner.Orthogonal(rate="before", inner=learner.Clamp(norm=0.5, inner=learner.PerTensor())),
    learner.Orthogonal(kind="cubic", steps=3),
    learner.Implicit(),
    learner.InTurn(),
    learner.InTurn(inner=learner.Momentum()),
    learner.InTurn(inner=learner.Implicit()),
    learner.LeastSquares(ridge=0.5),
)

CLOCKS: tuple[dict[str, Any], ...] = (
    {"update_every": 1},
    {"update_every": 1, "reads": "before"},
    {"update_every": 5},
    {"update_every": 5, "reads": "before"},
    {"update_every": 4, "step_every": 2},
    {"update_every": 6, "step_every": 3, "reads": "before"},
    {"update_every": 3, "step_every": 3},
    {"update_every": 8},
    {"update_every": None},
    {"update_every": None, "step_every": 3},
    {"update_every": None, "step_every": 2, "reads": "before"},
    {"update_every": 4, "step_every": 2, "anchor": Anchor(transition="gated")},
    {"update_every": 3, "reads": "before", "anchor": Anchor(transition="gated")},
    {"update_every": 1, "anchor": Anchor(residual="weights")},
    {"update_every": 6, "step_every": 3, "anchor": Anchor(residual="weights")},
    {"update_every": None, "step_every": 2, "anchor": Anchor(residual="weights")},
)

PRESETS: dict[str, MemoryRule] = {
    "linear_attention": presets.linear_attention(),
    "retnet": presets.retnet(),
    "lightning_attention": presets.lightning_attention(),
    "mamba2": presets.mamba2(),
    "gla": presets.gla(),
    "hgrn2": presets.hgrn2(),
    "decaying_fast_weights": presets.decaying_fast_weights(),
    "delta_net": presets.delta_net(),
    "gated_delta_net": presets.gated_delta_net(),
    "oja": presets.oja(),
    "rwkv7": presets.rwkv7(),
    "longhorn": presets.longhorn(),
    "delta_product": presets.delta_product(),
    "mesa": presets.mesa(),
    "ttt_linear": presets.ttt_linear(update_every=4),
    "ttt_mlp": presets.ttt_mlp(update_every=4),
    "titans": presets.titans(expansion=1.5, update_every=4),
    "tnt": presets.tnt(chunk=4),
    "moneta": presets.moneta(update_every=4),
    "yaad": presets.yaad(update_every=4),
    "memora": presets.memora(update_every=4),
    "omega_net": presets.omega_net(expansion=1.5, window=2, update_every=4),
    "atlas": presets.atlas(expansion=1.5, window=2, update_every=4),
}


BY_CHANNEL: dict[str, MemoryRule] = {
    "moneta by channel": presets.moneta(update_every=4, gates="channel"),
    "yaad by channel": presets.yaad(update_every=4, gates="channel"),
    "memora by channel": presets.memora(update_every=4, gates="channel"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A rule and what the tokens that it reads must look like."""

    name: str
    rule: MemoryRule

    @property
    def square(self) -> bool:
        """Whether keys and values must be equally wide."""
        return (
            isinstance(self.rule.structure, (structure.NormResidual, structure.ResidualGLU, structure.ResidualMLP, structure.Module))
            or self.rule.retention.gate == "channel"
            or self.rule.learner.channel_max > 0
        )

    def __repr__(self) -> str:
        return self.name


def _around(part: Any = None, **clocks: Any) -> MemoryRule:
    """The rule that a part or a clock is tried in: a small one in which every other choice matters too."""
    whole = MemoryRule(
        structure=structure.MLP(depth=2, expansion=1.5), bias=bias.L2(), retention=retention.Decay(), learner=learner.Momentum(), update_every=4
    )
    if getattr(part, "grad_at", "previous") == "decayed" or isinstance(part, learner.InTurn):
        clocks = {"update_every": 1}
    if isinstance(part, retention.OuterDecay) or getattr(part, "transposed", False):
        whole = replace(whole, structure=structure.Matrix())
    if isinstance(part, (learner.Implicit, learner.LeastSquares)) or part == learner.InTurn(inner=learner.Implicit()):
        whole = replace(whole, structure=structure.Matrix(), retention=retention.Keep(), update_every=1)
    slots = {AbstractStructure: "structure", AbstractBias: "bias", AbstractRetention: "retention", AbstractLearner: "learner"}
    chosen = {slot: part for kind, slot in slots.items() if isinstance(part, kind)}
    return replace(whole, **chosen, **clocks)


def _said(clocks: dict[str, Any]) -> str:
    return "-".join(f"{name}={named(value) if isinstance(value, Anchor) else value}" for name, value in clocks.items())


def named(part: object) -> str:
    """A short name: the class and what differs from its defaults."""
    changed = []
    for field in fields(part):  # pyright: ignore[reportArgumentType]
        value = getattr(part, field.name)
        if field.name == "inner":
            changed.append(named(value))
        elif value != field.default and field.name != "expansion":
            changed.append(str(value))
    return type(part).__name__ + (f"({','.join(changed)})" if changed else "")


# What an update_every of 1 and a matrix make possible has engines of its own, so these are tried together.
_DELTA = (
    *(
        replace(presets.delta_net(), retention=gate, bias=held, reads=reads)
        for gate in LINEAR
        for held in AFFINE
        for reads in ("after", "before")
        if (held, reads) in ((bias.L2(), "after"), (bias.L2(scale=1.0), "before"), (bias.Dot(), "after"))
    ),
    replace(presets.decaying_fast_weights(), retention=retention.OuterDecay(grad_at="decayed"), reads="before"),
)

_TOGETHER = tuple(
    clocks for clocks in CLOCKS if clocks.get("step_every", 1) > 1
)  # steps of many tokens, for structures in which these see each other

CASES: tuple[Case, ...] = (
    *(Case(name=named(part), rule=_around(part)) for part in (*STRUCTURES, *BIASES, *RETENTIONS, *LEARNERS)),
    *(Case(name=_said(clocks), rule=_around(**clocks)) for clocks in CLOCKS),
    *(Case(name=f"delta-{named(rule.retention)}-{named(rule.bias)}-{rule.reads}", rule=rule) for rule in _DELTA),
    *(Case(name="together-" + _said(clocks), rule=_around(structure.AttentionMLP(scale=2.0), **clocks)) for clocks in _TOGETHER),
    *(Case(name=name, rule=rule) for rule, name in {rule: name for name, rule in reversed(PRESETS.items()) if rule not in _DELTA}.items()),
    *(Case(name=name, rule=rule) for name, rule in BY_CHANNEL.items()),
)

_KEPT = {"Matrix", "MLP(4,silu)", "GatedMLP(relu)", "NormResidual(MLP)", "NormResidual(GatedMLP)", "Dot", "Keep", "ChannelDecay", "Decay(decayed)"}
_KEPT |= {"PerTensor(Momentum(2,surprise))", "Orthogonal(Clamp(PerTensor(Momentum),0.5),before)"}
_KEPT |= {"Momentum(3,surprise)", "Momentum(2,orders)", "delta-ChannelDecay(decayed)-L2-after", "delta-Decay-L2(1.0)-before", "titans"}
_KEPT |= {"yaad by channel", "PerChannel(KL)", "PerChannel(Momentum)"}
CLOCKED = {_said(clocks) for clocks in CLOCKS} | {"together-" + _said(clocks) for clocks in _TOGETHER}
_KEPT |= CLOCKED

# One case for each thing that engines do differently; laws that do not look at the single parts are tried on these.
CHOSEN: tuple[Case, ...] = tuple(case for case in CASES if case.name in _KEPT)

_SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"tile": 4, "recompute": 1, "chunk": 8},
    {"tile": 1, "recompute": 0, "chunk": 1},
    {"tile": 6, "recompute": 2, "chunk": 3},
)


def _variants(engine: AbstractEngine) -> tuple[AbstractEngine, ...]:
    """The engine with other settings of speed, so far as it has them."""
    known = {field.name for field in fields(engine)}  # pyright: ignore[reportArgumentType]
    settings = [{name: value for name, value in chosen.items() if name in known} for chosen in _SETTINGS]
    return tuple(dict.fromkeys(replace(engine, **chosen) for chosen in settings))  # pyright: ignore[reportType, reportArgumentType]


JUDGE = ENGINES[-1]
JUDGED: tuple[AbstractEngine, ...] = tuple(variant for engine in ENGINES[:-1] for variant in _variants(engine))


def willing(rule: MemoryRule) -> tuple[AbstractEngine, ...]:
    """The judged engines that run a rule, in each of their settings."""
    return tuple(engine for engine in JUDGED if engine.why_not(rule) is None)


def pairs_of(cases: tuple[Case, ...]) -> list[tuple[Case, str]]:
    """Each case with the name of each judged engine that runs it."""
    return [(case, name) for case in cases for name in dict.fromkeys(engine.name for engine in willing(case.rule))]
