"""The rules that a text memory can learn by: the presets, with a step for each observation, and which of a config's numbers each of them has."""

from __future__ import annotations

import inspect
from functools import lru_cache

import torch

from retain.core.contracts import AbstractAffineBias
from retain.core.rule import MemoryRule
from retain.layers.described import presets_by_name
from retain.memory.bias import L2
from retain.memory.learner import Momentum
from retain.memory.retention import Decay
from retain.memory.structure import MLP

DEFAULT = "titans"
EXPANSION = 4.0  # hidden units over channels of a key, in the default rule
EACH = ("update_every", "chunk")  # arguments of presets: how many tokens share one point at which gradients are taken


@lru_cache(maxsize=64)
def rule_of(preset: str, depth: int | None = None) -> MemoryRule:
    """The rule of that name, by which each observation is a step whose gradient is taken at the newest weights.

    The default is Titans equations 12 to 15 for a plain perceptron, whose fresh memory answers nothing.

    Args:
        preset: A name in ``retain.presets``.
        depth: Layers of the memory; None is what the preset has.

    Raises:
        ValueError: There is no such preset, or its memory has another depth.

    Examples:
        >>> rule_of("delta_net").bias, rule_of("atlas", 3).structure.depth
        (L2(scale=0.5), 3)
    """
    if preset == DEFAULT:
        structure = MLP(depth=depth or 2, expansion=EXPANSION, activation="relu")
        return MemoryRule(structure=structure, bias=L2(), retention=Decay(), learner=Momentum(), update_every=1)
    made = presets_by_name().get(preset)
    if made is None:
        raise ValueError(f"there is no preset {preset!r}. Cure: one of {', '.join(presets_by_name())}.")
    known = inspect.signature(made).parameters
    each = dict.fromkeys((name for name in EACH if name in known), 1)
    rule: MemoryRule = made(**each, **({"depth": depth} if depth is not None and "depth" in known else {}))
    if depth not in (None, depth_of(rule)):
        raise ValueError(f"memory_depth is {depth_of(rule)} in a memory of the preset {preset!r}, got {depth}. Cure: leave memory_depth out.")
    return rule


def depth_of(rule: MemoryRule) -> int:
    """How many matrices its memory has."""
    return sum(w.ndim == 3 for w in rule.structure.init(1, 8, 8).values())


def has_momentum(rule: MemoryRule) -> bool:
    """Whether steps linger in it."""
    return rule.learner.moments > 0 and not rule.learner.curved


def has_forgetting(rule: MemoryRule) -> bool:
    """Whether its weights let go, or, if it solves for them, its evidence."""
    return rule.retention.gate != "none" or rule.learner.curved


def is_dot(rule: MemoryRule) -> bool:
    """Whether its loss is no distance, but falls without end the better an answer agrees."""
    return isinstance(rule.bias.single, AbstractAffineBias) and rule.bias.single.slope == 0


def own_rate(preset: str, rule: MemoryRule, dim: int, momentum: float) -> float:
    """The learning rate of a memory that is told none: half of what its structure bears, shared among all that a step writes, now and later.

    A structure says what it bears for a loss whose slope at an error of one is one; other losses are steeper.
    """
    if preset == DEFAULT:
        return 0.01
    if rule.learner.rates == "after":  # each step is as long as its rate says, whatever its gradient
        return 0.05 * (1 - momentum)
    steepness = float(rule.bias.single.grad(torch.ones(1, 1), torch.zeros(1, 1)).abs()) if rule.bias.gate == "none" and not is_dot(rule) else 1.0
    return 0.5 * rule.structure.rate_bound(dim) / (rule.bias.window * steepness) * (1 - momentum)
