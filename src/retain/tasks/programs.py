"""Programs of assignments: chains from a number to a variable, written between each other, and the questions for their ends."""

from __future__ import annotations

import builtins
import keyword
import random
import string
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from .codec import Codec, ask

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


class Asked(NamedTuple):
    """A chain, the chain with the stray assignments to its variables, and the tokens of question and answer.

    Examples:
        >>> chain = [Statement("abcde", "12345")]
        >>> Asked(chain, chain, question=[63], answer=[49]).chain[0].name
        'abcde'
    """

    chain: list[Statement]
    thread: list[Statement]
    question: list[int]
    answer: list[int]


class Program(NamedTuple):
    """The tokens of a program, and where in it each statement begins.

    Examples:
        >>> Program([65, 10], {Statement("abcde", "12345"): 0}).tokens
        [65, 10]
    """

    tokens: list[int]
    starts: dict[Statement, int]


@dataclass(frozen=True)
class Programs:
    """How programs are drawn, written and asked.

    Args:
        hops: Assignments from variable to variable in a chain, 1 to 20.
        reassigned: Assignments of numbers to variables of an asked chain that do not change the answer.
        arithmetic: Whether each hop adds or subtracts 100 to 999.
        syntax: ``"plain"`` or ``"python"``.
        codec: What a token is.

    Raises:
        ValueError: A size is out of range, or the syntax is unknown.

    Examples:
        >>> from retain.tasks.codec import Bytes
        >>> programs, taken, dice = Programs(1, 0, False, "python", Bytes()), set(), random.Random(0)
        >>> asked = programs.ask(dice, taken)
        >>> program = programs.weave(programs.fill([asked.thread], 60, dice, taken), dice)
        >>> print(Bytes().decode(program.tokens + asked.question + asked.answer))
        fddcu = 79804
        vtkgn = 63075
        zvxis = fddcu
        xvzjx = vtkgn
        print(xvzjx)  # 63075
    """

    hops: int
    reassigned: int
    arithmetic: bool
    syntax: Syntax
    codec: Codec

    def __post_init__(self) -> None:
        if self.syntax not in ("plain", "python"):
            raise ValueError(f"the syntax of a program must be 'plain' or 'python', got {self.syntax!r}.")
        if not 1 <= self.hops <= MOST_HOPS or self.reassigned < 0:
            raise ValueError(f"a program needs hops of 1 to {MOST_HOPS} and reassigned >= 0, got hops={self.hops} and reassigned={self.reassigned}.")

    def ask(self, dice: random.Random, taken: set[str]) -> Asked:
        """A chain that is asked. Its variables and its numbers are none of ``taken``, where they are put."""
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
        return Asked(chain, thread, *ask(self.codec, prompt, str(value)))

    def fill(self, threads: list[list[Statement]], room: int, dice: random.Random, taken: set[str]) -> list[list[Statement]]:
        """The threads and, while ``room`` tokens hold them too, further chains and then single assignments."""
        threads, missing = list(threads), room - sum(map(self.size, threads))
        for hops in (self.hops, 0):
            while True:
                thread = self._chain(dice, taken, hops)
                missing -= self.size(thread)
                if missing < 0:
                    missing += self.size(thread)
                    break
                threads.append(thread)
        return threads

    def weave(self, threads: list[list[Statement]], dice: random.Random) -> Program:
        """The threads between each other, each in its own order."""
        order = [number for number, thread in enumerate(threads) for _ in thread]
        dice.shuffle(order)
        rest = [iter(thread) for thread in threads]
        program = [next(rest[number]) for number in order]
        lines = [self.codec.encode(statement.write(self.syntax)) for statement in program]
        starts = dict(zip(program, accumulate(map(len, lines), initial=0), strict=False))
        return Program([token for line in lines for token in line], starts)

    def number(self, root: Statement) -> int:
        """How many tokens stand in the line of a root before its number."""
        line = root.write(self.syntax)
        cut = line.index(root.source)
        return len(ask(self.codec, line[:cut], line[cut:])[0])

    def size(self, statements: list[Statement]) -> int:
        """How many tokens the statements take."""
        return sum(len(self.codec.encode(statement.write(self.syntax))) for statement in statements)

    def _chain(self, dice: random.Random, taken: set[str], hops: int | None = None) -> list[Statement]:
        hops = self.hops if hops is None else hops
        margin = hops * MOST_CHANGE if self.arithmetic else 0
        chain = [Statement(_name(dice, taken), _number(dice, taken, margin))]
        for _ in range(hops):
            change = dice.choice((-1, 1)) * dice.randint(100, MOST_CHANGE) if self.arithmetic else 0
            chain.append(Statement(_name(dice, taken), chain[-1].name, change))
        return chain


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
