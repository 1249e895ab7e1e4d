"""Any rule, a step at a time, by the library's own engines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from retain.core.reader import Plain
from retain.core.spread import spread
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import answered, select, weights_of

from .config import MemoryConfig
from .rules import is_dot
from .weights import Asked

PREFIX = "state/"


class Stepped:
    """The state of one memory under ``config.rule``; every observation is a token.

    Keys have length one. Values have the root of ``dim``, as they have in a layer, and as long as what a structure with a normalised answer gives; where a
    rule binds keys to values as well, both have length one.

    Sums are taken as the processor's matrix products take them: a history gives the same weights in every run on one machine, and weights that differ in
    their last digits on another kind of processor.

    Args:
        config: The rule and its rates.
    """

    def __init__(self, config: MemoryConfig) -> None:
        rule, dim = config.rule, config.dim
        self.config, self.rule, self.engine = config, rule, select(rule)
        self._length = 1.0 if rule.bias.transposed else math.sqrt(dim)
        self._gates = {name: gate.to(config.device) for name, gate in _gates(config).items()}
        initial = rule.structure.init(1, dim, dim, torch.Generator().manual_seed(config.seed))
        self._stand_at(MemoryState.start(rule, {name: w.to(config.device) for name, w in initial.items()}, 1))

    def key(self, channels: Tensor) -> Tensor:
        return channels

    def answer(self, key: Tensor) -> Tensor:
        return answered(self.rule, self._exposed, key.view(1, 1, 1, -1)).flatten()

    def ask(self, key: Tensor, channels: Tensor) -> Asked:
        target = channels * self._length
        rule, tokens, _, _ = spread(self.rule, self._token(key, target, 1.0), self.state, None)
        own = Plain(self._exposed)  # a token's own association comes first among those that its step writes
        loss = float(rule.loss(rule.structure.read(own, tokens.k[:, 0, :, :1]), tokens.targets[:, 0, :, :1])) / len(target)
        return Asked(key, target, self.answer(key), math.exp(min(loss, 700.0)) if is_dot(self.rule) else loss)

    def move(self, asked: Asked, learning_rate: float) -> float:
        before = self._exposed
        with torch.no_grad():
            _, after, _ = self.engine.run(self.rule, self._token(asked.key, asked.target, learning_rate), self.state)
        tensors = [t for _, t in after.tensors() if t.is_floating_point()]
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise ValueError(
                f"a learning rate of {learning_rate} is more than the rule {self.config.preset!r} bears: its weights are no numbers any more. "
                f"Nothing was changed. Cure: a smaller learning_rate; MemoryConfig(preset={self.config.preset!r}) has one of its own."
            )
        self._stand_at(after)
        return math.sqrt(sum(float((w - before[name]).square().sum()) for name, w in self._exposed.items()))

    def matrices(self) -> list[Tensor]:
        return list(self._exposed.values())

    def hash(self) -> str:
        return self.state.hash()

    def tensors(self) -> dict[str, Tensor]:
        return {f"{PREFIX}{path}": tensor for path, tensor in self.state.tensors()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        state = MemoryState.of({path.removeprefix(PREFIX): t for path, t in tensors.items() if path.startswith(PREFIX)})
        self._stand_at(state.to(self.config.device))

    def _stand_at(self, state: MemoryState) -> None:
        self.state, self._exposed = state, weights_of(self.rule, state)

    def _token(self, key: Tensor, target: Tensor, learning_rate: float) -> Tokens:
        k, v = (x.view(1, 1, 1, 1, -1) for x in (key, target))
        return replace(Tokens(k=k, v=v, q=k[:, :, :, 0], lr=k.new_full((1, 1, 1, 1), learning_rate)), **self._gates)


def _gates(config: MemoryConfig) -> dict[str, Tensor]:
    """What every token brings: the same numbers for each."""
    rule, dim, kept = config.rule, config.dim, 1 - config.forgetting
    gates = {}
    if rule.learner.moments:
        gates["momentum"] = torch.full((1, 1, 1, rule.learner.moments), kept if rule.learner.curved else config.momentum)
    shape, share = {"none": (None, 1.0), "head": ((), kept), "channel": ((dim,), kept), "outer": ((2 * dim,), math.sqrt(kept))}[rule.retention.gate]
    if shape is not None:
        gates["retain"] = torch.full((1, 1, 1, *shape), share)
    if rule.bias.gate == "token":  # no answer as long as a value is further from it than this
        gates["threshold"] = torch.full((1, 1, 1, 1), 2 * math.sqrt(dim))
    return gates
