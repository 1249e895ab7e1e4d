"""Hash-Hop over a cut: the shuffled lines are read, and each chain is asked for alone behind them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from ..codec import Bytes, Codec
from ..hash_hop import Chain, Chains, Wording, shuffle
from ..task import Fact
from .page import AbstractPages, Count, Page, Question, check_count, draw_count


@dataclass(frozen=True, kw_only=True)
class HashHopPages(AbstractPages):
    r"""``HashHop`` with the cut between the lines and the completion; each question has a completion of its own.

    Facts of a page: ``hops``, ``chains``, ``length`` (tokens). Facts of a question: ``hops``, ``distance`` (tokens from the last hash of the chain, in
    its line, to the end of the text), ``distance_1`` ... ``distance_h`` (from the beginning of the line of each hop). With chain of thought the answer
    begins with the hash behind the first hop, and ``distance`` is still that of the last one.

    Args:
        hops: Lines of a chain, 1 to 6.
        letters: Letters of a hash.
        chains: How many there are.
        asked: Questions of a page, each for another chain.
        thought: Whether the hashes on the way are asked too (chain of thought).
        codec: What a token is.
        wording: ``"magic"``, that of ``HashHop``; or ``"bare"``: lines `` A = B``, the question `` A =``, the answer `` B``, or `` B = C`` with chain of
            thought, which is needed then for more than one hop. There a hash is followed by the same tokens wherever it stands.

    Raises:
        ValueError: A size is out of range, there are too few hashes of so few letters, or bare pages of several hops are asked without the hashes on the
            way.

    Examples:
        >>> page = HashHopPages(letters=3, chains=2, asked=1, thought=True).page(seed=0)
        >>> print(Bytes().decode(page.text.tolist()), end="")
        HUD = GJi
        GJi = 'cps'
        Diw = 'rWu'
        tpc = Diw
        >>> (question,) = page.questions
        >>> Bytes().decode(question.prompt.tolist())
        "COMPLETION:\nHops=2\n\nCoT=True\n\ntpc = '"
        >>> Bytes().decode(question.answer.tolist()), question.facts["distance"]
        ('Diw = rWu', 15)
    """

    hops: int = 2
    letters: int = 4
    chains: Count = (4, 64)
    asked: int = 1
    thought: bool = False
    codec: Codec = field(default_factory=Bytes)
    wording: Wording = "magic"

    def __post_init__(self) -> None:
        least, most = check_count("HashHopPages.chains", self.chains)
        if not 1 <= self.asked <= least:
            raise ValueError(f"HashHopPages.asked must be 1 to the least number of chains, {least}, got {self.asked}.")
        self._chains.check_enough(most * (self.hops + 1))

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def page(self, seed: int) -> Page:
        dice, maker = random.Random(f"hash hop pages {seed}"), self._chains
        taken: set[str] = set()
        chains = [maker.draw(dice, taken) for _ in range(draw_count(self.chains, dice))]
        text, starts = shuffle([line for chain in chains for line in maker.lines(chain)], dice)
        ends = [len(text) - start for start in starts]
        # Chains are drawn one like the other and their lines are shuffled, so the first ones are as good as any.
        questions = [self._question(chain, ends[i * self.hops : (i + 1) * self.hops]) for i, chain in enumerate(chains[: self.asked])]
        return Page((torch.tensor(text),), tuple(questions), {"hops": self.hops, "chains": len(chains), "length": len(text)})

    @property
    def _chains(self) -> Chains:
        return Chains(self.hops, self.letters, self.thought, self.codec, self.wording)

    def _question(self, chain: Chain, distances: list[int]) -> Question:
        prompt, answer = self._chains.ask(chain)
        facts: dict[str, Fact] = {"hops": self.hops, "distance": distances[-1] - self._chains.answer(chain)}
        facts |= {f"distance_{hop + 1}": distance for hop, distance in enumerate(distances)}
        return Question(torch.tensor(prompt), torch.tensor(answer), facts)
