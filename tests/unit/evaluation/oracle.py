"""Models and tasks of which the tests know beforehand what they say and what they ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.models import RetainForCausalLM
from retain.tasks import AbstractTask, Sample
from retain.tasks.task import Fact
from tests.unit.models.test_generate import KINDS, model

Say = Callable[[int, int, bool], int]
"""Of a sample's seed, a place, and whether memories may write: the token that is said to stand there."""


class Place(NamedTuple):
    """What an oracle keeps: whom it reads, and how far it is."""

    seeds: tuple[int, ...]
    place: int


class Oracle(nn.Module):
    """Says what it is told to, token by token. The first token of each row is the seed of its sample.

    Args:
        say: What it says.
        vocabulary: Tokens that it knows.
        sure: How much the score of what it says is above all others.
    """

    def __init__(self, say: Say, vocabulary: int = 100, sure: float = 10.0) -> None:
        super().__init__()
        self.say, self.vocabulary, self.sure = say, vocabulary, sure
        self.calls: list[tuple[int, int]] = []

    def forward(self, input_ids: Tensor, past_key_values: Any, use_cache: bool, logits_to_keep: Tensor, write: bool = True) -> Any:
        assert use_cache
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append((input_ids.shape[1], len(logits_to_keep)))
        before = past_key_values or Place(tuple(input_ids[:, 0].tolist()), 0)
        places = [before.place + place + 1 for place in logits_to_keep.tolist()]
        said = torch.tensor([[self.say(seed, place, write) for place in places] for seed in before.seeds], dtype=torch.long)
        logits = self.sure * F.one_hot(said.reshape(len(before.seeds), len(places)), self.vocabulary).double()
        return SimpleNamespace(logits=logits, past_key_values=Place(before.seeds, before.place + input_ids.shape[1]))


@dataclass(frozen=True)
class Dictation(AbstractTask):
    """The seed, then tokens that follow from the seed and their place. Some are asked.

    Args:
        asked: Places that are asked.
        length: Tokens of a sample.
        labelled: Whether labels are asked, which are one more than the tokens.
        facts: Facts of every sample, beside its ``seed``.
        chance: What guessing comes to.
    """

    asked: tuple[int, ...] = (5, 6, 7)
    length: int = 8
    labelled: bool = False
    facts: Mapping[str, Fact] = field(default_factory=dict)
    chance: float | None = None

    @property
    def vocab_size(self) -> int:
        return 100

    def sample(self, seed: int) -> Sample:
        tokens = torch.tensor([seed, *(token(seed, place) for place in range(1, self.length))])
        asked = torch.zeros(self.length, dtype=torch.bool)
        asked[list(self.asked)] = True
        return Sample(tokens, asked, {"seed": seed, "length": self.length, **self.facts}, tokens + 1 if self.labelled else None)


def token(seed: int, place: int) -> int:
    """The token at a place of a sample."""
    return (7 * seed + 3 * place) % 90


def right(seed: int, place: int, write: bool) -> int:
    """What an oracle says that is always right."""
    return token(seed, place)


def wrong(seed: int, place: int, write: bool) -> int:
    """What an oracle says that is never right."""
    return 99


def small(kind: str, **others: Any) -> RetainForCausalLM:
    """A model of one layer, or of as many as the kind names."""
    layers = {} if isinstance(KINDS[kind]["block"], list) else {"num_hidden_layers": 1}
    return model(kind, **layers, **others)
