"""What a task is: something that draws samples, each a stream of tokens of which some are answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Fact = int | float | str


@dataclass(frozen=True, eq=False)
class Sample:
    """A stream of tokens, and where in it a model is asked.

    Args:
        tokens: What is read [time].
        asked: True where something is to be predicted from the tokens before it [time]; so never at position 0.
        facts: What an evaluation groups by, such as ``distance``: how many tokens lie between the place where the first answer stands in the
            context and the place where it is asked for.
        labels: What is to be predicted where that is not the token itself [time]. A label is no part of the stream, so a model that predicts the
            running state of something cannot read it off. None means the tokens.

    Raises:
        ValueError: The tensors differ in length, or position 0 is asked.

    Examples:
        >>> sample = Sample(torch.tensor([3, 8, 3, 8]), torch.tensor([False, False, False, True]), {"distance": 2})
        >>> sample.answers[sample.asked]
        tensor([8])
    """

    tokens: Int[Tensor, " time"]
    asked: Bool[Tensor, " time"]
    facts: Mapping[str, Fact]
    labels: Int[Tensor, " time"] | None = None

    def __post_init__(self) -> None:
        lengths = [len(part) for part in (self.tokens, self.asked, self.answers)]
        if len(set(lengths)) > 1:
            raise ValueError(f"Sample needs tokens, asked and labels of one length, got {lengths}.")
        if len(self.asked) and bool(self.asked[0]):
            raise ValueError("Sample.asked must be False at position 0, got True: no token stands before it to predict it from.")

    @property
    def answers(self) -> Int[Tensor, " time"]:
        """What is to be predicted at the asked places [time]."""
        return self.tokens if self.labels is None else self.labels


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples side by side, padded on the right with token 0.

    The logits that answer position t are those that a model gives after reading position t - 1, so the loss of a batch is the cross entropy of
    ``logits[:, :-1][asked[:, 1:]]`` and ``answers[:, 1:][asked[:, 1:]]``.

    Args:
        tokens: What is read [batch, time].
        asked: True where something is to be predicted; never in the padding [batch, time].
        mask: True where a token is real [batch, time].
        answers: What is to be predicted at the asked places; the tokens themselves unless the task has labels [batch, time].
        facts: The facts of each row.

    Examples:
        >>> rows = [Sample(torch.arange(n), torch.arange(n) > 0, {"length": n}) for n in (2, 3)]
        >>> batch = Batch.of(rows)
        >>> batch.tokens.tolist(), batch.mask.tolist(), batch.facts[1]["length"]
        ([[0, 1, 0], [0, 1, 2]], [[True, True, False], [True, True, True]], 3)
    """

    tokens: Int[Tensor, "batch time"]
    asked: Bool[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    answers: Int[Tensor, "batch time"]
    facts: tuple[Mapping[str, Fact], ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        """The samples as rows, in their order.

        Raises:
            ValueError: There is no sample.
        """
        if not samples:
            raise ValueError("Batch needs at least one sample, got none.")
        tokens, asked, answers = (_pad([getattr(sample, name) for sample in samples]) for name in ("tokens", "asked", "answers"))
        mask = _pad([torch.ones_like(sample.asked) for sample in samples])
        return cls(tokens, asked, mask, answers, tuple(sample.facts for sample in samples))


def _pad(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


class AbstractTask(ABC):
    """Something to be asked: a frozen dataclass of sizes, and samples that depend on those and a seed alone.

    The same seed gives the same sample on every machine, in any order, whatever else draws random numbers. What is trained on and what is held out are
    two sets of seeds.

    Examples:
        >>> from retain.tasks import Parity
        >>> task: AbstractTask = Parity(shortest=4, longest=6)
        >>> task.vocab_size, [int(row.sum()) for row in task.batch(range(3)).mask]
        (3, [5, 6, 6])
    """

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest token, and than the largest label, that a sample can hold."""

    @abstractmethod
    def sample(self, seed: int) -> Sample:
        """The sample that belongs to ``seed``."""

    def batch(self, seeds: Iterable[int]) -> Batch:
        """The samples of ``seeds`` as rows, padded on the right to the longest.

        Raises:
            ValueError: There is no seed.
        """
        return Batch.of([self.sample(seed) for seed in seeds])
