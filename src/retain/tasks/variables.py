"""Dependency tracing: programs of assignments, and one variable asked for its value."""

from __future__ import annotations

import builtins
import keyword
import random
import string
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

import torch

from .codec import Bytes, Codec, ask
from .task import AbstractTask, Fact, Sample

Syntax = Literal["plain", "python"]
LETTERS = 5
RESERVED = frozenset(keyword.kwlist) | frozenset(dir(builtins))
MOST_HOPS = 20
MOST_CHANGE = 999


class Statement(NamedTuple):
    r"""``name = source + change``; the source is a variable or, at the root of a chain, a number.

    Examples:
        >>> Statement("abcde", "fghij", -700).write("python"), Statement("abcde", "12345").write("plain")
        ('abcde = fghij - 700\n', 'VAR ABCDE = 12345\n')
    """

    name: str
    source: str
    change: int = 0

    def write(self, syntax: Syntax) -> str:
        """The line of the statement."""
        change = f" {'+' if self.change > 0 else '-'} {abs(self.change)}" if self.change else ""
        if syntax == "python":
            return f"{self.name} = {self.source}{change}\n"
        source = self.source if self.source.isdigit() else f"VAR {self.source.upper()}"
        return f"VAR {self.name.upper()} = {source}{change}\n"


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
        if self.syntax not in ("plain", "python"):
            raise ValueError(f"VariableTracing.syntax must be 'plain' or 'python', got {self.syntax!r}.")
        if not 1 <= self.hops <= MOST_HOPS or self.reassigned < 0:
            raise ValueError(
                f"VariableTracing needs hops of 1 to {MOST_HOPS} and reassigned >= 0, got hops={self.hops} and reassigned={self.reassigned}."
            )
        asked = self._asked(random.Random(0), set())
        needed = len(asked.question) + len(asked.answer) + self._size(asked.thread)
        if needed > self.length:
            raise ValueError(f"VariableTracing.length={self.length} has no room for the asked chain and its question. Cure: length={needed} or more.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"variable tracing {seed}")
        taken: set[str] = set()
        asked = self._asked(dice, taken)
        room = self.length - len(asked.question) - len(asked.answer)
        threads = self._fill(asked.thread, room, dice, taken)
        order = [number for number, thread in enumerate(threads) for _ in thread]
        dice.shuffle(order)
        rest = [iter(thread) for thread in threads]
        program = [next(rest[number]) for number in order]
        lines = [self.codec.encode(statement.write(self.syntax)) for statement in program]
        starts = dict(zip(program, accumulate(map(len, lines), initial=0), strict=False))
        body = [token for line in lines for token in line]
        first = len(body) + len(asked.question)
        root = asked.chain[0].write(self.syntax)
        cut = root.index(asked.chain[0].source)
        number = starts[asked.chain[0]] + len(ask(self.codec, root[:cut], root[cut:])[0])
        facts: dict[str, Fact] = {"hops": self.hops, "chains": sum(len(thread) > self.hops for thread in threads), "distance": first - number}
        facts |= {f"distance_{i}": first - starts[statement] for i, statement in enumerate(asked.chain)}
        tokens = torch.tensor(body + asked.question + asked.answer)
        return Sample(tokens, torch.arange(len(tokens)) >= first, facts)

    def _asked(self, dice: random.Random, taken: set[str]) -> _Asked:
        chain = self._chain(dice, taken)
        thread = list(chain)
        taken.add(chain[0].source)
        for _ in range(self.reassigned):
            stray, late = dice.randrange(self.hops + 1), dice.random() < 0.5
            own = thread.index(chain[stray])
            read = thread.index(chain[stray + 1]) if stray < self.hops else None
            place = dice.randint(read + 1, len(thread)) if late and read is not None else dice.randint(0, own)
            thread.insert(place, Statement(chain[stray].name, _number(dice, taken)))
            taken.add(thread[place].source)
        value = int(chain[0].source) + sum(statement.change for statement in chain)
        name = chain[-1].name
        prompt = f"print({name})  # " if self.syntax == "python" else f"What is VAR {name.upper()}? "
        return _Asked(chain, thread, *ask(self.codec, prompt, str(value)))

    def _fill(self, first: list[Statement], room: int, dice: random.Random, taken: set[str]) -> list[list[Statement]]:
        """The asked chain and, while there is room for them, further chains and then single assignments."""
        threads, missing = [first], room - self._size(first)
        for hops in (self.hops, 0):
            while True:
                thread = self._chain(dice, taken, hops)
                missing -= self._size(thread)
                if missing < 0:
                    missing += self._size(thread)
                    break
                threads.append(thread)
        return threads

    def _chain(self, dice: random.Random, taken: set[str], hops: int | None = None) -> list[Statement]:
        hops = self.hops if hops is None else hops
        margin = hops * MOST_CHANGE if self.arithmetic else 0
        chain = [Statement(_name(dice, taken), _number(dice, taken, margin))]
        for _ in range(hops):
            change = dice.choice((-1, 1)) * dice.randint(100, MOST_CHANGE) if self.arithmetic else 0
            chain.append(Statement(_name(dice, taken), chain[-1].name, change))
        return chain

    def _size(self, statements: list[Statement]) -> int:
        return sum(len(self.codec.encode(statement.write(self.syntax))) for statement in statements)


class _Asked(NamedTuple):
    """The chain, the chain with the stray assignments to its variables, and the tokens of question and answer."""

    chain: list[Statement]
    thread: list[Statement]
    question: list[int]
    answer: list[int]


def _name(dice: random.Random, taken: set[str]) -> str:
    while True:
        name = "".join(dice.choices(string.ascii_lowercase, k=LETTERS))
        if name not in taken and name not in RESERVED:
            taken.add(name)
            return name


def _number(dice: random.Random, taken: set[str], margin: int = 0) -> str:
    while True:
        number = str(dice.randint(10_000 + margin, 99_999 - margin))
        if number not in taken:
            return number
