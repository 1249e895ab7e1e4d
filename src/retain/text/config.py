"""What a text memory is made with."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import quote

from retain.core.rule import MemoryRule
from retain.memory.bias import L2
from retain.memory.learner import Momentum
from retain.memory.retention import Decay
from retain.memory.structure import MLP

EXPANSION = 4.0  # hidden units over channels of a key


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The size of a memory, and how it learns.

    Args:
        dim: Width of the memory. However much it reads, its weights are ``dim`` squared numbers at depth 1, 8 times as many at depth 2, and 16 times as many
            more for each further layer.
        memory_depth: Layers of the network whose weights are the memory, 1 to 4.
        learning_rate: The rule's rate. At 0.01 a step takes a fresh memory of depth 2 most of the way; no step is longer than what takes the text's own
            error to nothing.
        momentum: How much of each step lingers in the next, from 0 up to 1.
        forgetting: The share of all weights that each step lets go, from 0 up to 1.
        temperature: How evenly ``infer`` spreads its attention over the texts.
        seed: Which random weights the memory begins with.
        device: Where it learns.

    Raises:
        ValueError: A number is not finite or lies outside its range.

    Examples:
        >>> MemoryConfig(dim=64, learning_rate=0.02).rule.learner
        Momentum(order=1, mix='last')
        >>> MemoryConfig(learning_rate=float("nan"))
        Traceback (most recent call last):
        ValueError: learning_rate must be a positive finite number, got nan.
    """

    dim: int = 512
    memory_depth: int = 2
    learning_rate: float = 0.01
    momentum: float = 0.1
    forgetting: float = 0.0
    temperature: float = 0.1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 8 <= self.dim <= 8192:
            raise ValueError(f"dim must be 8 to 8192, got {self.dim}.")
        if not 1 <= self.memory_depth <= 4:
            raise ValueError(f"memory_depth must be 1 to 4, got {self.memory_depth}.")
        for name in ("learning_rate", "temperature"):
            checked_positive(name, getattr(self, name))
        for name in ("momentum", "forgetting"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {getattr(self, name)}.")

    @property
    def rule(self) -> MemoryRule:
        """The rule of which each observation is a step: Titans equations 12 to 15, with gradients at the newest weights."""
        structure = MLP(depth=self.memory_depth, expansion=EXPANSION, activation="relu")
        return MemoryRule(structure=structure, bias=L2(), retention=Decay(), learner=Momentum(), update_every=1)

    @property
    def learnt_with(self) -> dict[str, Any]:
        """The part that what is learnt depends on: it belongs to a memory for good."""
        return {name: value for name, value in asdict(self).items() if name not in {"learning_rate", "temperature", "device"}}

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


NOBODYS = Scope()
"""That of the memory which belongs to nobody."""
