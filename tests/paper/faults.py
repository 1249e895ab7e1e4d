"""What a planted fault is, and the ways to be wrong that several share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Any  # whatever stands there: a function, a method, a property


@dataclass(frozen=True)
class Fault:
    """What is wrong, in whose name, what is put in the place of the right one, which equations it harms, and which of their tests must fail."""

    says: str
    owner: object
    name: str
    wrong: Callable[[Function], Function]
    harms: tuple[tuple[str, int], ...]
    noticed: tuple[Callable[[], None], ...]


def titans(*numbers: int) -> tuple[tuple[str, int], ...]:
    return tuple(("titans", number) for number in numbers)


def miras(*numbers: int) -> tuple[tuple[str, int], ...]:
    return tuple(("miras", number) for number in numbers)


def nested_learning(*numbers: int) -> tuple[tuple[str, int], ...]:
    return tuple(("nested_learning", number) for number in numbers)


def always(value: Function) -> Callable[[Function], Function]:
    """This, whatever the right one is."""
    return lambda right: value


def a_property(value: Function) -> Callable[[Function], Function]:
    return lambda right: property(value)


def times(factor: float) -> Callable[[Function], Function]:
    """The right answer, so many times."""
    return lambda right: lambda *args, **named: factor * right(*args, **named)


def squared(right: Function) -> Function:
    return lambda *args, **named: right(*args, **named) ** 2


def never_moves(right: Function) -> Function:
    """No row crosses a boundary."""
    return lambda *args: torch.zeros_like(right(*args))


def unmasked(right: Function) -> Function:
    """Attention to all there is."""
    return lambda q, k, v, mask: right(q, k, v, torch.ones_like(mask))


def shorter(mask: Tensor) -> Tensor:
    """A mask of windows that begin one token later."""
    first = mask & (mask.int().cumsum(-1) == 1)
    return mask & ~(first & (mask.sum(-1, keepdim=True) > 1))
