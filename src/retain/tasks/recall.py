"""Associative recall: pairs of key and value tokens, then keys, each asked for its value."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .task import AbstractTask, Sample

BLANK = 0


@dataclass(frozen=True, kw_only=True)
class MQAR(AbstractTask):
    """Multi-query associative recall: ``k1 v1 k2 v2 ...``, a gap, then each key again, followed by its value, which is asked.

    Token 0 is blank, the next ``vocabulary / 2`` tokens are keys, the others values. The keys of a sample differ and are drawn evenly; so are the
    values, which may repeat. Source: Arora et al. 2023, Zoology. Ours: the value follows its key in the stream where it is asked (Zoology has it as a
    label alone), ``gap``, and noise that holds no key that was bound.

    Facts: ``pairs``, ``queries``, ``length``, ``distance`` (tokens from the value of the first asked key to the place where it is asked).

    Args:
        pairs: Keys that are bound.
        queries: Keys that are asked; None means all of them.
        vocabulary: Keys and values that there are, half of each.
        length: Tokens of a sample, exactly.
        gap: Tokens of filler at least between the last pair and the first query.
        filler: ``"blank"``: token 0. ``"noise"``: values, and keys that are not bound in the sample, drawn evenly.
        power: Queries stand in slots of two tokens behind the gap; slot i is drawn with a weight of ``i ** (power - 1)``. Zoology's 0.01 crowds them
            towards the pairs; 1 is even.

    Raises:
        ValueError: The sizes do not fit each other.

    Examples:
        >>> sample = MQAR(pairs=2, vocabulary=8, length=12, gap=2).sample(seed=1)
        >>> sample.tokens.tolist(), sample.tokens[sample.asked].tolist()
        ([2, 7, 3, 5, 0, 0, 2, 7, 0, 0, 3, 5], [7, 5])
    """

    pairs: int = 16
    queries: int | None = None
    vocabulary: int = 128
    length: int = 128
    gap: int = 32
    filler: Literal["blank", "noise"] = "blank"
    power: float = 0.01

    def __post_init__(self) -> None:
        if self.vocabulary < 4 or self.vocabulary % 2:
            raise ValueError(f"MQAR.vocabulary must be even, half keys and half values, and 4 at least, got {self.vocabulary}.")
        if not 1 <= self.pairs <= self.vocabulary // 2:
            raise ValueError(f"MQAR.pairs must be 1 to {self.vocabulary // 2}, one for each key of the vocabulary at most, got {self.pairs}.")
        if not 1 <= self.asked_keys <= self.pairs:
            raise ValueError(f"MQAR.queries must be 1 to pairs={self.pairs}, got {self.queries}.")
        if self.filler not in ("blank", "noise"):
            raise ValueError(f"MQAR.filler must be 'blank' or 'noise', got {self.filler!r}.")
        if self.gap < 0 or self.power <= 0:
            raise ValueError(f"MQAR needs gap >= 0 and power > 0, got gap={self.gap} and power={self.power}.")
        self.check_room(self.pairs)

    @property
    def asked_keys(self) -> int:
        """How many keys are asked."""
        return self.pairs if self.queries is None else self.queries

    def check_room(self, writes: int) -> None:
        """Refuse a length in which ``writes`` pairs, the gap and the queries have no room."""
        needed = 2 * writes + self.gap + 2 * self.asked_keys
        if needed > self.length:
            raise ValueError(
                f"MQAR.length={self.length} is too short: {writes} pairs, a gap of {self.gap} and {self.asked_keys} queries take {needed} tokens. "
                f"Cure: length={needed} or more."
            )

    @property
    def vocab_size(self) -> int:
        return self.vocabulary + 1

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"recall {seed}")
        keys = dice.sample(self.keys, self.pairs)
        values = [dice.choice(self.values) for _ in keys]
        return self.stream(list(zip(keys, values, strict=True)), dice)

    @property
    def keys(self) -> range:
        """The tokens that are keys."""
        return range(1, self.vocabulary // 2 + 1)

    @property
    def values(self) -> range:
        """The tokens that are values."""
        return range(self.vocabulary // 2 + 1, self.vocabulary + 1)

    def stream(self, writes: list[tuple[int, int]], dice: random.Random, facts: dict[int, dict[str, int]] | None = None) -> Sample:
        """The writes, in their order, the gap, and queries for the newest value of their keys. ``facts`` holds more facts on each key."""
        newest = dict(writes)
        places = {key: 2 * i + 1 for i, (key, _) in enumerate(writes)}
        tokens = self._hay(set(newest), dice)
        tokens[: 2 * len(writes)] = torch.tensor(writes).flatten()
        asked = torch.zeros(self.length, dtype=torch.bool)
        start = 2 * len(writes) + self.gap
        slots = sorted(_weighted(range((self.length - start) // 2), self.asked_keys, self.power, dice))
        queried = dice.sample(list(newest), self.asked_keys)
        for key, slot in zip(queried, slots, strict=True):
            tokens[start + 2 * slot], tokens[start + 2 * slot + 1] = key, newest[key]
            asked[start + 2 * slot + 1] = True
        first = start + 2 * slots[0] + 1
        own = {"pairs": self.pairs, "queries": self.asked_keys, "length": self.length, "distance": first - places[queried[0]]}
        return Sample(tokens, asked, own | (facts or {}).get(queried[0], {}))

    def _hay(self, bound: set[int], dice: random.Random) -> Tensor:
        if self.filler == "blank":
            return torch.full((self.length,), BLANK)
        tokens = torch.tensor([token for token in (*self.keys, *self.values) if token not in bound])
        generator = torch.Generator().manual_seed(dice.getrandbits(63))
        return tokens[torch.randint(len(tokens), (self.length,), generator=generator)]


@dataclass(frozen=True, kw_only=True)
class ForgettingMQAR(AbstractTask):
    """MQAR in which keys are bound again: of each asked key the newest value is asked.

    Which keys are bound again, and how often, is drawn evenly; first and later bindings stand in a random order, and a later value of a key differs
    from all its earlier ones. Source: the forgetting MQAR of the Zoology repository, where all later bindings come behind all first ones, one a key.

    Facts: those of MQAR, ``rebinds``, and ``rebound``: how often the first asked key was bound again (0 means never). To group all answers by it, ask
    one key a sample: ``MQAR(queries=1)``.

    Args:
        recall: The sizes; ``recall.pairs`` counts keys, and its length must have room for the further bindings.
        rebinds: Bindings beyond the first of each key.

    Raises:
        ValueError: There is no room, or a key could need more values than there are.

    Examples:
        >>> sample = ForgettingMQAR(recall=MQAR(pairs=2, queries=1, vocabulary=8, length=12, gap=2), rebinds=2).sample(seed=0)
        >>> sample.tokens.tolist(), sample.tokens[sample.asked].tolist(), sample.facts["rebound"]
        ([2, 8, 4, 6, 4, 5, 2, 5, 0, 0, 2, 5], [5], 1)
    """

    recall: MQAR = field(default_factory=lambda: MQAR(length=160))
    rebinds: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.rebinds < len(self.recall.values):
            raise ValueError(
                f"ForgettingMQAR.rebinds must be at least 0 and less than the {len(self.recall.values)} values of the vocabulary, so that a key bound "
                f"again has a new value each time, got {self.rebinds}."
            )
        self.recall.check_room(self.recall.pairs + self.rebinds)

    @property
    def vocab_size(self) -> int:
        return self.recall.vocab_size

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"forgetting recall {seed}")
        keys = dice.sample(self.recall.keys, self.recall.pairs)
        order = [*keys, *(dice.choice(keys) for _ in range(self.rebinds))]
        dice.shuffle(order)
        fresh = {key: dice.sample(self.recall.values, order.count(key)) for key in keys}
        writes = [(key, fresh[key][order[:i].count(key)]) for i, key in enumerate(order)]
        return self.recall.stream(writes, dice, {key: {"rebinds": self.rebinds, "rebound": order.count(key) - 1} for key in keys})


def _weighted(slots: range, count: int, power: float, dice: random.Random) -> list[int]:
    """``count`` different slots, drawn one after the other by weight (Efraimidis and Spirakis 2006)."""
    arrival = {slot: -math.log(1.0 - dice.random()) * (slot + 1) ** (1.0 - power) for slot in slots}
    return sorted(slots, key=arrival.__getitem__)[:count]
