"""Tensors by their names: arithmetic on the weights of a memory, and branches of paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def by_channel(gate: Tensor, params: Params, part: str, instead: str) -> dict[str, Tensor]:
    """Each weight times a gate [..., channels] of ``part``, along the first of its axes that is as wide; ``instead`` is what to use where there is none."""
    return {name: _along(gate, name, w, part, instead) * w for name, w in params.items()}


def _along(gate: Tensor, name: str, weight: Tensor, part: str, instead: str) -> Tensor:
    channels, shape = gate.shape[-1], weight.shape[gate.ndim - 1 :]
    if len(shape) == 1 and shape[0] == channels:
        return gate
    if len(shape) == 2 and channels in shape:
        return gate.unsqueeze(-1) if shape[0] == channels else gate.unsqueeze(-2)
    raise ValueError(
        f"{part} has {channels} channels, but the weight {name!r} of one head has shape {list(shape)}, no axis of which is as wide. Use a matrix "
        f"or an MLP of depth 1 or 2, or {instead}."
    )


def pick(rows: Tensor, yes: Params, no: Params) -> dict[str, Tensor]:
    """For each row of the batch, ``yes`` where ``rows`` holds and ``no`` elsewhere."""
    return each(lambda a, b: a if a is b else torch.where(stretch(rows, a), a, b), yes, no)


def under(named: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Those tensors whose paths begin with ``place``, by the rest of their paths."""
    return {path.removeprefix(place): part for path, part in named.items() if path.startswith(place)}


def placed(named: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """The inverse of ``under``."""
    return {place + path: part for path, part in named.items()}
