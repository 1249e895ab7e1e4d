"""Several steps for each token."""

from __future__ import annotations

from dataclasses import dataclass, field

from retain.core.contracts import AbstractLearner
from retain.core.rule import MemoryRule

from .gradient import Gradient
from .wrapper import AbstractWrapper


@dataclass(frozen=True, kw_only=True)
class InTurn(AbstractWrapper):
    r"""A token's $n$ associations are learnt one after the other: $W_{t,j} = W_{t,j-1} + \Delta(\theta_{t,j} \nabla \ell(W_{t,j-1}; k_{t,j}, v_{t,j}))$.

    Each step takes its gradient where the one before it came to. The first one forgets, the others keep all; the token reads after the last one (or
    before the first). With a matrix memory and a squared error that is a product of $n$ Householder-like maps for each token. Its associations are the
    pairs of ``Projections(pairs=n)``, or the tokens of an ``Omega`` window. Source: DeltaProduct; MIRAS Table 1 ("MGD", several rounds of gradient
    descent for each token).

    Args:
        inner: The learner of each step.

    Examples:
        >>> InTurn().in_turn, InTurn().single
        (True, Gradient())
    """

    inner: AbstractLearner = field(default_factory=Gradient)

    @property
    def in_turn(self) -> bool:
        return True

    @property
    def single(self) -> AbstractLearner:
        return self.inner.single

    def why_not(self, rule: MemoryRule) -> str | None:
        if rule.update_every != 1 or rule.step_every != 1:
            return (
                "learner.InTurn takes each step's gradient at the newest memory, so it needs update_every=1 and step_every=1, got "
                f"{rule.update_every} and {rule.step_every}. Leave InTurn out to learn a token's associations together."
            )
        return self.inner.why_not(rule)
