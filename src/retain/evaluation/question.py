"""Where in a sample the question begins, and what its answers are."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from retain.tasks import Codec, Sample

from .share import Share


def question_start(sample: Sample, codec: Codec | None = None) -> int:
    """The place before which a sample holds what may be asked, and from which on it is asked.

    It is the fact ``question``, if the sample has it; else, in text, where the last line before the first answer begins; else the place of the token
    that the first answer is foretold from, the one before it.

    Args:
        sample: What is asked.
        codec: What a token is, if the sample is text.

    Raises:
        ValueError: Nothing is asked, or the question begins behind the token that the first answer is foretold from.

    Examples:
        >>> from retain.tasks import MQAR, Bytes, Needle
        >>> sample = MQAR(pairs=2, vocabulary=8, length=12, gap=2).sample(seed=1)
        >>> sample.tokens.tolist(), question_start(sample)
        ([2, 7, 3, 5, 0, 0, 2, 7, 0, 0, 3, 5], 6)
        >>> sample = Needle(length=100).sample(seed=0)
        >>> Bytes().decode(sample.tokens[question_start(sample, Bytes()) :].tolist())
        '\\nThe pass key for vogato is 36720'
    """
    if not bool(sample.asked.any()):
        raise ValueError("a sample asks nothing: none of its tokens is marked as asked.")
    last = int(sample.asked.int().argmax()) - 1
    start = sample.facts.get("question")
    if start is None:
        return last if codec is None else _last_line(sample, last, codec)
    if not isinstance(start, int) or not 0 <= start <= last:
        raise ValueError(f"a question begins at a place from 0 to {last}, the token that the first answer is foretold from; got {start!r}.")
    return start


def _last_line(sample: Sample, last: int, codec: Codec) -> int:
    """Where the line begins that the token at the place ``last`` ends; ``last`` if there is but one line. A token may hold more than a line's end."""
    return next((place for place in range(last - 1, -1, -1) if "\n" in codec.decode([int(sample.tokens[place])])), last)


def answer_starts(sample: Sample) -> Bool[Tensor, " time"]:
    """True where an answer of the sample begins [time].

    Asked tokens that stand side by side are one answer. Labels are no part of the stream, so with labels each is an answer of its own.

    Examples:
        >>> tokens, asked = torch.tensor([4, 5, 6, 7, 8]), torch.tensor([False, True, True, False, True])
        >>> answer_starts(Sample(tokens, asked, {})), answer_starts(Sample(tokens, asked, {}, labels=tokens + 1))
        (tensor([False,  True, False, False,  True]), tensor([False,  True,  True, False,  True]))
    """
    if sample.labels is not None:
        return sample.asked
    before = torch.cat([sample.asked.new_zeros(1), sample.asked[:-1]])
    return sample.asked & ~before


def right_answers(sample: Sample, hit: Bool[Tensor, " time"]) -> Share:
    """Answers of which every token is a ``hit`` [time].

    Examples:
        >>> sample = Sample(torch.tensor([4, 5, 6, 7, 8]), torch.tensor([False, True, True, False, True]), {})
        >>> right_answers(sample, torch.tensor([False, True, False, False, True]))
        Share(right=1, asked=2)
    """
    number = answer_starts(sample).cumsum(0)
    asked, wrong = int(number[-1]), number[sample.asked & ~hit].unique()
    return Share(asked - len(wrong), asked)
