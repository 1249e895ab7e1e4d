"""Dependency tracing over a cut: a program is read, and variables are asked for their values behind it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from ..codec import Bytes, Codec
from ..programs import Asked, Program, Programs, Syntax
from ..task import Fact
from .page import AbstractPages, Page, Question


@dataclass(frozen=True, kw_only=True)
class TracingPages(AbstractPages):
    r"""``VariableTracing`` with the cut between the program and the questions, each for the end of another chain.

    Facts of a page: ``hops``, ``chains``, ``length`` (tokens). Facts of a question: ``hops``, ``distance`` (tokens from the number at the root of the
    chain to the end of the text; with arithmetic the answer is another number), ``distance_0`` ... ``distance_h`` (from the beginning of each
    assignment of the chain, the root first).

    Args:
        hops: Assignments from variable to variable in a chain, 1 to 20.
        reassigned: Assignments of numbers to variables of each asked chain that do not change its answer.
        arithmetic: Whether each hop adds or subtracts 100 to 999.
        syntax: ``"plain"`` or ``"python"``.
        length: Tokens of the program at most; one more assignment would pass it.
        asked: Questions of a page.
        codec: What a token is.

    Raises:
        ValueError: A size is out of range, the syntax is unknown, or there is no room for the asked chains.

    Examples:
        >>> page = TracingPages(hops=1, length=70, syntax="python").page(seed=0)
        >>> print(Bytes().decode(page.text.tolist()), end="")
        wkakm = 69417
        elsbb = 98281
        mfljl = 88122
        ezhdq = mfljl
        eznzz = wkakm
        >>> (question,) = page.questions
        >>> [Bytes().decode(part.tolist()) for part in (question.prompt, question.answer)], question.facts["distance"]
        (['print(eznzz)  # ', '69417'], 62)
    """

    hops: int = 2
    reassigned: int = 0
    arithmetic: bool = False
    syntax: Syntax = "plain"
    length: int = 512
    asked: int = 1
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        if self.asked < 1:
            raise ValueError(f"TracingPages.asked must be at least 1, got {self.asked}.")
        thread = self._programs.ask(random.Random(0), set()).thread
        needed = self.asked * sum(len(statement.write(self.syntax)) for statement in thread)  # a token is a byte at least
        if needed > self.length:
            raise ValueError(f"TracingPages.length={self.length} may have no room for {self.asked} asked chains. Cure: length={needed} or more.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def page(self, seed: int) -> Page:
        dice, programs = random.Random(f"tracing pages {seed}"), self._programs
        taken: set[str] = set()
        asked = [programs.ask(dice, taken) for _ in range(self.asked)]
        threads = programs.fill([one.thread for one in asked], self.length, dice, taken)
        program = programs.weave(threads, dice)
        chains = sum(len(thread) > self.hops for thread in threads)
        facts: dict[str, Fact] = {"hops": self.hops, "chains": chains, "length": len(program.tokens)}
        return Page((torch.tensor(program.tokens),), tuple(self._question(one, program) for one in asked), facts)

    @property
    def _programs(self) -> Programs:
        return Programs(self.hops, self.reassigned, self.arithmetic, self.syntax, self.codec)

    def _question(self, asked: Asked, program: Program) -> Question:
        distances = [len(program.tokens) - program.starts[statement] for statement in asked.chain]
        facts: dict[str, Fact] = {"hops": self.hops, "distance": distances[0] - self._programs.number(asked.chain[0])}
        facts |= {f"distance_{i}": distance for i, distance in enumerate(distances)}
        return Question(torch.tensor(asked.question), torch.tensor(asked.answer), facts)
