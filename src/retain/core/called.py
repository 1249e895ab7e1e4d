"""What type checkers are told of modules: torch says that a module takes anything and returns anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def called_as(forward: Callable[Concatenate[Any, P], R]) -> Callable[[Callable[..., Any]], Callable[Concatenate[Any, P], R]]:
    """Says that a module is called as its ``forward`` is. For ``if TYPE_CHECKING`` alone; a module's own ``__call__`` is torch's.

    Examples:
        >>> called_as(len)(print) is print
        True
    """
    return lambda call: call
