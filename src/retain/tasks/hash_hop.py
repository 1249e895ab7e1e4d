"""Hash-Hop: chains of random letters, their lines shuffled, to be followed from the first to the last."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import torch

from .codec import Bytes, Codec, ask
from .task import AbstractTask, Fact, Sample
from .words import Letters

Chain = list[str]
Wording = Literal["magic", "bare"]


@dataclass(frozen=True)
class Chains:
    r"""How chains of hashes are drawn, written and asked.

    Args:
        hops: Lines of a chain, 1 to 6.
        letters: Letters of a hash.
        thought: Whether the hashes on the way are asked too.
        codec: What a token is.
        wording: ``"magic"``, Magic's; or ``"bare"``, in which a hash is written in one way, be it left or right, in a line or in an answer.

    Raises:
        ValueError: A size is out of range, or bare chains are asked for their ends alone, of which nothing says how far off they are.

    Examples:
        >>> chains = Chains(hops=2, letters=3, thought=False, codec=Bytes())
        >>> [Bytes().decode(line) for line in chains.lines(["Rbs", "miW", "Gaz"])]
        ['Rbs = miW\n', "miW = 'Gaz'\n"]
        >>> [Bytes().decode(part) for part in chains.ask(["Rbs", "miW", "Gaz"])]
        ["COMPLETION:\nHops=2\n\nCoT=False\n\nRbs = '", 'Gaz']
        >>> chains = Chains(hops=2, letters=3, thought=True, codec=Bytes(), wording="bare")
        >>> [Bytes().decode(line) for line in chains.lines(["Rbs", "miW", "Gaz"])]
        [' Rbs = miW\n', ' miW = Gaz\n']
        >>> [Bytes().decode(part) for part in chains.ask(["Rbs", "miW", "Gaz"])]
        [' Rbs =', ' miW = Gaz']
    """

    hops: int
    letters: int
    thought: bool
    codec: Codec
    wording: Wording = "magic"

    def __post_init__(self) -> None:
        if not 1 <= self.hops <= 6:
            raise ValueError(f"Hash-Hop needs hops of 1 to 6, got {self.hops}.")
        if self.letters < 1:
            raise ValueError(f"Hash-Hop needs letters >= 1, got letters={self.letters}.")
        if self.wording not in ("magic", "bare"):
            raise ValueError(f"Hash-Hop knows the wordings 'magic' and 'bare', got {self.wording!r}.")
        if self.wording == "bare" and self.hops > 1 and not self.thought:
            raise ValueError(
                f"a bare question does not say after how many hops its answer stands, got hops={self.hops}. Cure: thought=True, which asks for all of them."
            )

    def draw(self, dice: random.Random, taken: set[str]) -> Chain:
        """One hash more than there are hops, none of them in ``taken``, where they are put."""
        chain, hashes = [], Letters(self.letters)
        while len(chain) <= self.hops:
            drawn = hashes.draw(dice)
            if drawn not in taken:
                taken.add(drawn)
                chain.append(drawn)
        return chain

    def lines(self, chain: Chain) -> list[list[int]]:
        """The lines of a chain; in Magic's wording quotes mark its last hash."""
        return [self.codec.encode("".join(self._line(chain, hop))) for hop in range(self.hops)]

    def answer(self, chain: Chain) -> int:
        """How many tokens stand in the last line of a chain before its last hash."""
        return len(ask(self.codec, *self._line(chain, self.hops - 1))[0])

    def ask(self, chain: Chain, *, first: bool = True) -> tuple[list[int], list[int]]:
        """The question for the end of a chain, and the answer. The first question has the head of the completion before it."""
        if self.wording == "bare":
            return ask(self.codec, f" {chain[0]} =", "".join(f" = {hash_}" for hash_ in chain[1:]).removeprefix(" ="))
        before = f"COMPLETION:\nHops={self.hops}\n\nCoT={self.thought}\n\n" if first else "'\n"
        return ask(self.codec, f"{before}{chain[0]} = '", " = ".join(chain[1:]) if self.thought else chain[-1])

    def _line(self, chain: Chain, hop: int) -> tuple[str, str]:
        """A line of a chain: what stands before its right hash, and the rest."""
        left, right = chain[hop : hop + 2]
        if self.wording == "bare":
            return f" {left} =", f" {right}\n"
        return (f"{left} = '", f"{right}'\n") if hop == self.hops - 1 else (f"{left} = ", f"{right}\n")

    def check_enough(self, hashes: int) -> None:
        """Refuse letters of which there are too few for so many different hashes."""
        exist = Letters(self.letters).count
        if 2 * hashes > exist:
            raise ValueError(
                f"Hash-Hop of these sizes needs about {hashes} different hashes, and of letters={self.letters} there are {exist}; at most half of "
                "them are used. Cure: more letters, or smaller sizes."
            )


def shuffle(lines: list[list[int]], dice: random.Random) -> tuple[list[int], list[int]]:
    """The tokens of the lines in a random order, and where each line begins.

    Examples:
        >>> shuffle([[1, 2], [3], [4, 5]], random.Random(0))
        ([1, 2, 4, 5, 3], [0, 4, 2])
    """
    order = list(range(len(lines)))
    dice.shuffle(order)
    begins = accumulate((len(lines[i]) for i in order), initial=0)
    starts = dict(zip(order, begins, strict=False))
    return [token for i in order for token in lines[i]], [starts[i] for i in range(len(lines))]


@dataclass(frozen=True, kw_only=True)
class HashHop(AbstractTask):
    r"""``A = B`` and ``B = 'C'`` somewhere among many such lines; at the end ``A = 'C'``, or ``A = 'B = C'`` with chain of thought, is asked.

    Hashes are incompressible and the lines are shuffled, so nothing but the hashes themselves leads from one line to the next. Source: Magic's
    Hash-Hop (2024), whose wording of lines and completion this is. Ours: all hashes of a sample differ (there short ones collide), the size
    is in tokens of the codec and never passed (there in characters, and passed by 6 to 19 %), and the asked chains are drawn with the rest.

    Facts: ``hops``, ``chains``, ``distance`` (tokens from the last hash of the first asked chain, in its line, to the place where it is asked), and
    ``distance_1`` ... ``distance_h`` (from the beginning of the line of each hop to the first asked token).

    Args:
        hops: Lines of a chain, 1 to 6.
        letters: Letters of a hash, each of a-z and A-Z evenly.
        length: Tokens of a sample at most; one more chain would pass it.
        queries: Chains that are asked, one behind the other.
        thought: Whether the hashes on the way are asked too (chain of thought).
        codec: What a token is.

    Raises:
        ValueError: A size is out of range, there is no room for the asked chains, or there are too few hashes of so few letters.

    Examples:
        >>> sample = HashHop(hops=2, letters=3, length=80).sample(seed=0)
        >>> print(Bytes().decode(sample.tokens.tolist()))
        Rbs = miW
        miW = 'Gaz'
        COMPLETION:
        Hops=2
        <BLANKLINE>
        CoT=False
        <BLANKLINE>
        Rbs = 'Gaz
        >>> Bytes().decode(sample.tokens[sample.asked].tolist())
        'Gaz'
    """

    hops: int = 2
    letters: int = 8
    length: int = 1024
    queries: int = 1
    thought: bool = False
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        chains = self._chains
        if self.queries < 1:
            raise ValueError(f"HashHop needs queries >= 1, got queries={self.queries}.")
        dice = random.Random(0)
        asked = [chains.draw(dice, set()) for _ in range(self.queries)]
        tail = len(self._tail(asked))
        needed, room = sum(len(line) for chain in asked for line in chains.lines(chain)), self.length - tail
        if needed > room:
            raise ValueError(
                f"HashHop.length={self.length} has no room for {self.queries} chains of {self.hops} lines and their questions. "
                f"Cure: length={needed + tail} or more."
            )
        chains.check_enough(round(room / needed * self.queries * (self.hops + 1)))

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"hash hop {seed}")
        taken: set[str] = set()
        queried = [self._chains.draw(dice, taken) for _ in range(self.queries)]
        tail, lines = self._tail(queried), [line for chain in queried for line in self._chains.lines(chain)]
        missing = self.length - len(tail) - sum(map(len, lines))
        while missing >= 0:
            further = self._chains.lines(self._chains.draw(dice, taken))
            missing -= sum(map(len, further))
            lines += further if missing >= 0 else []
        body, starts = shuffle(lines, dice)
        tokens = torch.tensor(body + [token for token, _ in tail])
        asked = torch.tensor([False] * len(body) + [is_asked for _, is_asked in tail])
        first = int(asked.int().argmax())
        answer = starts[self.hops - 1] + self._chains.answer(queried[0])
        facts: dict[str, Fact] = {"hops": self.hops, "chains": len(lines) // self.hops, "distance": first - answer}
        return Sample(tokens, asked, facts | {f"distance_{hop + 1}": first - starts[hop] for hop in range(self.hops)})

    @property
    def _chains(self) -> Chains:
        return Chains(self.hops, self.letters, self.thought, self.codec)

    def _tail(self, queried: list[Chain]) -> list[tuple[int, bool]]:
        """The completion, token by token with whether it is asked."""
        asked = [self._chains.ask(chain, first=chain is queried[0]) for chain in queried]
        return [(token, is_answer) for pair in asked for part, is_answer in zip(pair, (False, True), strict=True) for token in part]
