"""Which tokens a memory writes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from .turns import turn_markers


class AbstractWrites(ABC):
    """A rule that says for each token whether the memories take a step for it. All tokens are read at.

    What a rule must know of the tokens before a call, it keeps in ``marks``, so that any split of a stream into calls writes the same tokens. A row of zeros
    is a stream without tokens so far.

    Examples:
        >>> class Even(AbstractWrites):
        ...     def mask(self, tokens, real, marks):
        ...         return real & (tokens % 2 == 0), None
        >>> Even().mask(torch.tensor([[1, 2, 4]]), torch.ones(1, 3, dtype=torch.bool), None)
        (tensor([[False,  True,  True]]), None)
    """

    @abstractmethod
    def mask(self, tokens: Tensor | None, real: Tensor, marks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """True where a token is written [batch, time], None for all; and the marks behind the call.

        Args:
            tokens: Their numbers [batch, time]; None if the model was given embeddings.
            real: True where there is a token, False where there is padding [batch, time].
            marks: What this rule kept of the call before [batch, ...]; None at the start, and for rules that keep nothing.
        """

    @property
    def least(self) -> float | None:
        """How much a token must surprise a memory for it to be written, too; None if that is not asked."""
        return None


@dataclass(frozen=True)
class AllTokens(AbstractWrites):
    """Every token is written.

    Examples:
        >>> AllTokens().mask(None, torch.ones(1, 2, dtype=torch.bool), None)
        (None, None)
    """

    def mask(self, tokens: Tensor | None, real: Tensor, marks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return None, None


@dataclass(frozen=True)
class NoTokens(AbstractWrites):
    """Nothing is written: the memories stand still and answer.

    Examples:
        >>> NoTokens().mask(None, torch.ones(1, 2, dtype=torch.bool), None)[0].tolist()
        [[False, False]]
    """

    def mask(self, tokens: Tensor | None, real: Tensor, marks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return torch.zeros_like(real), None


@dataclass(frozen=True)
class MarkedTokens(AbstractWrites):
    """Tokens between two markers are written, such as the user's turns of a chat; the markers are not.

    Of a ``stop`` of several tokens only the last is left out, since before it nobody knows that it is one.

    Args:
        start: The tokens behind which writing begins.
        stop: The tokens with which it ends.

    Raises:
        ValueError: A marker is empty, has a negative number, or the two are the same; from ``mask``, if the model was given embeddings.

    Examples:
        >>> words = torch.tensor([[5, 1, 2, 7, 8, 3, 9]])
        >>> MarkedTokens(start=(1, 2), stop=(3,)).mask(words, words > 0, None)[0].tolist()
        [[False, False, False, True, True, False, False]]
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.start or not self.stop or min(*self.start, *self.stop) < 0 or self.start == self.stop:
            raise ValueError(f"markers are two different sequences of at least one token each, got start={self.start} and stop={self.stop}.")

    @classmethod
    def turns(cls, tokenizer: Any, role: Literal["user", "assistant"] = "user") -> MarkedTokens:
        """What one side says in a chat, by the markers that the tokenizer's chat template puts around it.

        Raises:
            ValueError: The template does not mark the turns of this role so that they can be told.
        """
        return cls(*turn_markers(tokenizer, role))

    def mask(self, tokens: Tensor | None, real: Tensor, marks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if tokens is None:
            raise ValueError("MarkedTokens looks for markers among tokens, and the model was given inputs_embeds. Cure: give input_ids.")
        tail = max(len(self.start), len(self.stop)) - 1
        kept = (
            torch.zeros(len(tokens), 1 + tail, dtype=torch.long) if marks is None else marks.cpu()
        )  # whether it is open; and the tail, counted from 1
        written, after = torch.zeros(real.shape, dtype=torch.bool), kept.clone()
        words, there = tokens.cpu(), real.cpu()
        for row in range(len(words)):
            line = torch.cat([kept[row, 1:], words[row, there[row]] + 1])
            new = len(line) - tail
            opens, closes = (_ends(line, marker)[tail:] for marker in (self.start, self.stop))
            place = torch.where(opens | closes, torch.arange(1, new + 1), 0).cummax(0).values if new else line[tail:]
            standing = torch.cat([kept[row, :1].bool(), opens])[place]
            written[row, there[row]] = torch.cat([kept[row, :1].bool(), standing])[:-1] & ~closes
            after[row] = torch.cat([torch.cat([kept[row, :1].bool(), standing])[-1:].long(), line[len(line) - tail :]])
        return written.to(real.device), after


@dataclass(frozen=True)
class SurprisingTokens(AbstractWrites):
    """Tokens are written that surprise a memory: by at least so much on average over its heads, each memory by itself.

    A token's surprise is the loss of the memory at the weights where its gradient would be taken, those of the last multiple of ``update_every``; so the
    memories are read from one multiple to the next, which for a rule that takes every gradient anew is token by token.

    Args:
        threshold: The least surprise; 0 writes all of a bias whose loss is never negative, and infinity nothing.
        among: Which tokens may be written at all.

    Examples:
        >>> SurprisingTokens(0.5).least
        0.5
    """

    threshold: float
    among: AbstractWrites = field(default_factory=AllTokens)

    def __post_init__(self) -> None:
        if math.isnan(self.threshold) or self.among.least is not None:
            raise ValueError(f"SurprisingTokens takes a number, and tokens that are not chosen by surprise; got {self.threshold} among {self.among}.")

    def mask(self, tokens: Tensor | None, real: Tensor, marks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return self.among.mask(tokens, real, marks)

    @property
    def least(self) -> float | None:
        return self.threshold


_KNOWN: dict[str, type[AbstractWrites]] = {kind.__name__: kind for kind in (AllTokens, NoTokens, MarkedTokens, SurprisingTokens)}


def writes_to(writes: AbstractWrites) -> dict[str, Any]:
    """A rule as plain data, its ``name`` and its arguments.

    Raises:
        ValueError: It is not one of this module's.
    """
    if type(writes) not in _KNOWN.values():
        raise ValueError(f"{type(writes).__name__} cannot be written down; {', '.join(_KNOWN)} can.")
    plain: dict[str, Any] = {"name": type(writes).__name__}
    for each in fields(writes):  # pyright: ignore[reportArgumentType]
        value = getattr(writes, each.name)
        plain[each.name] = writes_to(value) if isinstance(value, AbstractWrites) else list(value) if isinstance(value, tuple) else value
    return plain


def writes_from(given: Mapping[str, Any]) -> AbstractWrites:
    """The inverse of ``writes_to``.

    Raises:
        ValueError: There is no such rule, or it has no such arguments.

    Examples:
        >>> writes_from({"name": "MarkedTokens", "start": [1], "stop": [2]})
        MarkedTokens(start=(1,), stop=(2,))
    """
    kind = _KNOWN.get(str(given.get("name")))
    known = () if kind is None else tuple(each.name for each in fields(kind))  # pyright: ignore[reportArgumentType]
    arguments = {name: value for name, value in given.items() if name != "name"}
    if kind is None or not {*arguments} <= {*known}:
        raise ValueError(f"there are no writes {dict(given)!r}; there are {', '.join(_KNOWN)}{f', and this one has {known}' if kind else ''}.")
    return kind(
        **{
            name: writes_from(value) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list) else value
            for name, value in arguments.items()
        }
    )


def _ends(line: Tensor, marker: tuple[int, ...]) -> Tensor:
    """Where in a line, counted from 1, a marker ends."""
    found = torch.zeros(len(line), dtype=torch.bool)
    if len(line) >= len(marker):
        found[len(marker) - 1 :] = (line.unfold(0, len(marker), 1) == torch.tensor(marker) + 1).all(-1)
    return found
