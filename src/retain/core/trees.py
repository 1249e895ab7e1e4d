"""Arithmetic on the weights of a memory, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .shapes import Params


def each(function: Callable[..., Tensor], *params: Params) -> dict[str, Tensor]:
    """``function`` applied name by name."""
    return {name: function(*(part[name] for part in params)) for name in params[0]}


def each_matrix(
    function: Callable[..., Tensor], lead: int, *params: Params, vectors: Callable[..., Tensor] = lambda w, *rest: w
) -> dict[str, Tensor]:
    """``function`` applied to what has two axes or more behind the ``lead`` that count memories, and ``vectors`` to the rest: gains and shifts."""
    return each(lambda w, *rest: function(w, *rest) if w.ndim > lead + 1 else vectors(w, *rest), *params)


def stretch(factor: Tensor, like: Tensor) -> Tensor:
    """``factor`` with axes of length one behind it, so that it multiplies ``like`` from the left."""
    return factor.reshape(factor.shape + (1,) * (like.ndim - factor.ndim))


def pick(rows: Tensor, yes: Params, no: Params) -> dict[str, Tensor]:
    """For each row of the batch, ``yes`` where ``rows`` holds and ``no`` elsewhere."""
    return each(lambda a, b: a if a is b else torch.where(stretch(rows, a), a, b), yes, no)
