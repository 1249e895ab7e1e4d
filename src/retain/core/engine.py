"""What an engine promises."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .rule import MemoryRule
from .spread import gathered, spread
from .state import MemoryState
from .tokens import Tokens
from .untraced import untraced


class AbstractEngine(ABC):
    """Something that runs a rule over tokens. No engine may change the answer."""

    name: str

    def why_not(self, rule: MemoryRule) -> str | None:
        """None if this engine runs the rule, else a sentence that says what stands in the way."""
        return self.refusal(rule.spread)

    @abstractmethod
    def refusal(self, rule: MemoryRule) -> str | None:
        """What ``why_not`` says of a rule whose tokens are spread out."""

    @abstractmethod
    def advance(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None) -> tuple[Tensor, MemoryState, Tensor]:
        """What ``run`` promises, for tokens that are spread out and at least one row, the longest of which has all tokens there are."""

    def run(self, rule: MemoryRule, tokens: Tokens, state: MemoryState, lengths: Tensor | None = None) -> tuple[Tensor, MemoryState, Tensor]:
        """Outputs [batch, time, heads, value], the state after the tokens, and each token's surprise [batch, time, heads].

        Of row ``b`` only the first ``lengths[b]`` tokens exist (a host tensor; None means all); what comes out behind them means nothing.
        """
        if tokens.batch == 0:
            return tokens.v[:, :, :, 0], state, tokens.lr.sum(-1)
        longest = tokens.time
        if lengths is not None:
            longest = int(lengths.max())
            lengths = None if bool((lengths == longest).all()) else lengths
        here = tokens if longest == tokens.time else tokens.map(lambda x: x[:, :longest])
        y, after, surprise = gathered(rule, here, *untraced(self.advance)(*spread(rule, here, state, lengths)))
        return _lengthen(y, tokens.time), after, _lengthen(surprise, tokens.time)


def _lengthen(x: Tensor, time: int) -> Tensor:
    missing = time - x.shape[1]
    return torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1) if missing else x
