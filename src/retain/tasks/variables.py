"""Dependency tracing: programs of assignments, and one variable asked for its value."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from .codec import Bytes, Codec
from .programs import Programs, Syntax
from .task import AbstractTask, Fact, Sample


@dataclass(frozen=True, kw_only=True)
class VariableTracing(AbstractTask):
    r"""``a = 48213``, later ``b = a``, later ``c = b``, many such chains between each other; at the end the value of ``c`` is asked.

    Statements are run in their order: a variable has the value of its newest assignment when it is read. The plain syntax is that of RULER's
    variable tracking (Hsieh et al. 2024); the other is Python that runs. Ours: the value is asked (RULER asks for all variables of a value), further
    chains fill the length instead of noise, ``reassigned`` and ``arithmetic``.

    The chains of a sample have different variables and the same number of hops, and no other chain holds a number of the asked one; where no whole
    chain fits, single assignments of numbers fill the rest.

    Facts: ``hops``, ``chains``, ``distance`` (tokens from the number at the root of the asked chain to the place where the value is asked), and
    ``distance_0`` ... ``distance_h`` (from the beginning of each assignment of the asked chain, the root first, to the first asked token).

    Args:
        hops: Assignments from variable to variable in a chain, 1 to 20.
        reassigned: Assignments of numbers to variables of the asked chain that do not change the answer: before the variable's own place in the chain,
            or after it has been read.
        arithmetic: Whether each hop adds or subtracts 100 to 999.
        syntax: ``"plain"`` or ``"python"``.
        length: Tokens of a sample at most; one more assignment would pass it.
        codec: What a token is.

    Raises:
        ValueError: A size is out of range, the syntax is unknown, or there is no room for the asked chain.

    Examples:
        >>> sample = VariableTracing(hops=1, length=110, syntax="python").sample(seed=0)
        >>> print(Bytes().decode(sample.tokens.tolist()))
        xuzgo = 90766
        lwxco = 79469
        inhqv = 42876
        qcxet = lwxco
        dgqmu = xuzgo
        cqhwx = inhqv
        print(qcxet)  # 79469
        >>> Bytes().decode(sample.tokens[sample.asked].tolist()), sample.facts["distance"]
        ('79469', 78)
    """

    hops: int = 2
    reassigned: int = 0
    arithmetic: bool = False
    syntax: Syntax = "plain"
    length: int = 1024
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        asked = self._programs.ask(random.Random(0), set())
        needed = len(asked.question) + len(asked.answer) + self._programs.size(asked.thread)
        if needed > self.length:
            raise ValueError(f"VariableTracing.length={self.length} has no room for the asked chain and its question. Cure: length={needed} or more.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        dice, programs = random.Random(f"variable tracing {seed}"), self._programs
        taken: set[str] = set()
        asked = programs.ask(dice, taken)
        threads = programs.fill([asked.thread], self.length - len(asked.question) - len(asked.answer), dice, taken)
        body, starts = programs.weave(threads, dice)
        first = len(body) + len(asked.question)
        number = starts[asked.chain[0]] + programs.number(asked.chain[0])
        facts: dict[str, Fact] = {"hops": self.hops, "chains": sum(len(thread) > self.hops for thread in threads), "distance": first - number}
        facts |= {f"distance_{i}": first - starts[statement] for i, statement in enumerate(asked.chain)}
        tokens = torch.tensor(body + asked.question + asked.answer)
        return Sample(tokens, torch.arange(len(tokens)) >= first, facts)

    @property
    def _programs(self) -> Programs:
        return Programs(self.hops, self.reassigned, self.arithmetic, self.syntax, self.codec)
