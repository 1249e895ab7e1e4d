"""Hash-Hop: chains of random letters, their lines shuffled, to be followed from the first to the last."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from .codec import Bytes, Codec, ask
from .task import AbstractTask, Fact, Sample

Chain = list[str]


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
        if not 1 <= self.hops <= 6:
            raise ValueError(f"HashHop.hops must be 1 to 6, got {self.hops}.")
        if self.letters < 1 or self.queries < 1:
            raise ValueError(f"HashHop needs letters >= 1 and queries >= 1, got letters={self.letters} and queries={self.queries}.")
        dice = random.Random(0)
        tail, lines = self._asked([self._chain(dice, set()) for _ in range(self.queries)])
        needed, room = sum(len(line) for line in lines), self.length - len(tail)
        if needed > room:
            raise ValueError(
                f"HashHop.length={self.length} has no room for {self.queries} chains of {self.hops} lines and their questions. "
                f"Cure: length={needed + len(tail)} or more."
            )
        hashes, exist = round(room / needed * self.queries * (self.hops + 1)), len(string.ascii_letters) ** self.letters
        if 2 * hashes > exist:
            raise ValueError(
                f"HashHop of length={self.length} needs about {hashes} different hashes, and of letters={self.letters} there are {exist}; at most half of "
                "them are used. Cure: more letters, or a smaller length."
            )

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"hash hop {seed}")
        taken: set[str] = set()
        chains = [self._chain(dice, taken) for _ in range(self.queries)]
        tail, lines = self._asked(chains)
        missing = self.length - len(tail) - sum(map(len, lines))
        while missing >= 0:
            further = self._lines(self._chain(dice, taken))
            missing -= sum(map(len, further))
            lines += further if missing >= 0 else []
        order = list(range(len(lines)))
        dice.shuffle(order)
        starts = dict(zip(order, accumulate((len(lines[i]) for i in order), initial=0), strict=False))
        body = [token for i in order for token in lines[i]]
        tokens = torch.tensor(body + [token for token, _ in tail])
        asked = torch.tensor([False] * len(body) + [is_asked for _, is_asked in tail])
        first = int(asked.int().argmax())
        last, target = chains[0][-2:]
        answer = starts[self.hops - 1] + len(ask(self.codec, f"{last} = '", f"{target}'\n")[0])
        facts: dict[str, Fact] = {"hops": self.hops, "chains": len(lines) // self.hops, "distance": first - answer}
        return Sample(tokens, asked, facts | {f"distance_{hop + 1}": first - starts[hop] for hop in range(self.hops)})

    def _chain(self, dice: random.Random, taken: set[str]) -> Chain:
        """One hash more than there are hops, none of them in ``taken``, where they are put."""
        chain: Chain = []
        while len(chain) <= self.hops:
            drawn = "".join(dice.choices(string.ascii_letters, k=self.letters))
            if drawn not in taken:
                taken.add(drawn)
                chain.append(drawn)
        return chain

    def _lines(self, chain: Chain) -> list[list[int]]:
        """The lines of a chain; quotes mark its last hash."""
        ends = [*chain[1:-1], f"'{chain[-1]}'"]
        return [self.codec.encode(f"{left} = {right}\n") for left, right in zip(chain, ends, strict=False)]

    def _asked(self, chains: list[Chain]) -> tuple[list[tuple[int, bool]], list[list[int]]]:
        """The completion, token by token with whether it is asked, and the lines that it is answered from."""
        tail: list[tuple[int, bool]] = []
        before = f"COMPLETION:\nHops={self.hops}\n\nCoT={self.thought}\n\n"
        for chain in chains:
            answer = " = ".join(chain[1:]) if self.thought else chain[-1]
            prompt, tokens = ask(self.codec, f"{before}{chain[0]} = '", answer)
            tail += [*((token, False) for token in prompt), *((token, True) for token in tokens)]
            before = "'\n"
        return tail, [line for chain in chains for line in self._lines(chain)]
