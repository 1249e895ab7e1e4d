"""What a compiler is to call and not to trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., object])


def untraced(function: F) -> F:
    """``function``, and under ``torch.compile`` the same left alone: it takes gradients of its own, or asks how long each row is."""
    return cast(F, torch.compiler.disable(function)) if torch.compiler.is_compiling() else function
