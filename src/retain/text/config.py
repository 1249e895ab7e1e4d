"""What a text memory is made with."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from retain.core.rule import MemoryRule

from .rules import DEFAULT, depth_of, has_forgetting, has_momentum, own_rate, rule_of

_THE_RULES_OWN: Any = None  # stands for a number that is filled in with what the rule has


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The size of a memory, and the rule by which it learns.

    A number of the rule that is left out is the rule's own, and stands in the config from then on. Every observation is one step of the rule. The default,
    Titans equations 12 to 15 on a plain perceptron, is written out here: it is fast, takes no step longer than what takes the text's own error to nothing, and
    gives the same weights on every machine. All others are run by the library's engines, on keys of length one and values as long as the root of ``dim``.

    Args:
        dim: Width of the memory. However much is read, the weights of a matrix are ``dim`` squared numbers; those of the default are 8 times as many, and 16
            times as many more for each layer beyond the second.
        memory_depth: Layers of the network whose weights are the memory, 1 to 4; 2, or what the preset has.
        learning_rate: The rule's rate. The default's is 0.01, at which a step takes a fresh memory of depth 2 most of the way; that of others is half of what
            a fresh memory of theirs bears.
        momentum: How much of each step lingers in the next, from 0 up to 1; 0 unless given, since texts that follow
            each other may have nothing in common.
        forgetting: The share of all weights that each step lets go, from 0 up to 1; 0 unless given. With ``"mesa"``, the share of its evidence.
        seed: Which random weights the memory begins with.
        device: Where it learns.
        preset: The name of the rule, one of ``retain.presets``. Those that differ in nothing but who makes their gates, as ``"retnet"`` and ``"mamba2"``, are
            one rule here.

    Raises:
        ValueError: A number is not finite, lies outside its range, or the rule has none such; or there is no such preset.

    Examples:
        >>> MemoryConfig(dim=64, learning_rate=0.02).rule.learner
        Momentum(order=1, mix='last')
        >>> MemoryConfig(dim=64, preset="delta_net").learning_rate
        0.5
        >>> MemoryConfig(preset="delta_net", momentum=0.5)
        Traceback (most recent call last):
        ValueError: the preset 'delta_net' has no momentum, got 0.5. Cure: leave momentum out, or choose a preset that has it, as 'titans'.
    """

    dim: int = 512
    memory_depth: int = _THE_RULES_OWN
    learning_rate: float = _THE_RULES_OWN
    momentum: float = _THE_RULES_OWN
    forgetting: float = _THE_RULES_OWN
    seed: int = 0
    device: str = "cpu"
    preset: str = DEFAULT

    def __post_init__(self) -> None:
        if not 8 <= self.dim <= 8192:
            raise ValueError(f"dim must be 8 to 8192, got {self.dim}.")
        if self.memory_depth is not None and not 1 <= self.memory_depth <= 4:
            raise ValueError(f"memory_depth must be 1 to 4, got {self.memory_depth}.")
        rule = rule_of(self.preset, self.memory_depth)
        for name, has in (("momentum", has_momentum(rule)), ("forgetting", has_forgetting(rule))):
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, 0.0)
            elif not 0 <= given < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {given}.")
            elif given and not has:
                raise ValueError(
                    f"the preset {self.preset!r} has no {name}, got {given}. Cure: leave {name} out, or choose a preset that has it, as {DEFAULT!r}."
                )
        if self.memory_depth is None:
            object.__setattr__(self, "memory_depth", depth_of(rule))
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", own_rate(self.preset, rule, self.dim, self.momentum))
        checked_positive("learning_rate", self.learning_rate)

    @property
    def rule(self) -> MemoryRule:
        """The rule of which each observation is a step, with gradients at the newest weights."""
        return rule_of(self.preset, self.memory_depth)

    @property
    def learnt_with(self) -> dict[str, Any]:
        """The part that what is learnt depends on: it belongs to a memory for good."""
        return {name: value for name, value in asdict(self).items() if name not in {"learning_rate", "device"}}

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MemoryConfig:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


def checked_positive(name: str, value: float) -> float:
    """The number itself, which must be positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value}.")
    return value


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Whose memory it is. Memories of different scopes lie in different folders and have nothing in common, neither texts nor weights.

    Args:
        user: The user, if the memory is one user's.
        agent: The agent, if it is one agent's.
        run: The run, if it is of one run only.

    Raises:
        ValueError: A name is too long to name a folder.

    Examples:
        >>> Scope(user="ann", run="7").folder
        'user=ann,run=7'
    """

    user: str = ""
    agent: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        if len(self.folder.encode()) > 200:
            raise ValueError("the names of a scope make a folder's name of more than 200 bytes. Cure: shorter names, or a hash of them.")

    @property
    def folder(self) -> str:
        """The name of its folder; empty for the memory that is nobody's."""
        return ",".join(f"{name}={quote(value, safe='')}" for name, value in asdict(self).items() if value)

    def within(self, path: Path) -> Path:
        """Where its memory lies in the folder that was asked for."""
        return path / "scopes" / self.folder if self.folder else path


NOBODYS = Scope()
"""That of the memory which belongs to nobody."""
