"""Attention over a window by torch's flex attention, which on a GPU leaves out what is not in sight instead of masking it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

FEWEST_CHANNELS = 16
"""Below this width of a head the kernel for GPUs does not exist."""


def flex_fits(q: Tensor) -> bool:
    """Whether the kernel runs queries [batch, time, heads, width]: on a GPU, in heads whose width is a power of two and not too small."""
    width = q.shape[-1]
    return q.is_cuda and width >= FEWEST_CHANNELS and width & (width - 1) == 0


def look_by_flex(q: Tensor, keys: Tensor, values: Tensor, clock: Tensor, size: int, ahead: int = 0) -> Tensor:
    """The answers to queries [batch, time, heads, width], each of which sees ``size`` keys: its own and those before it.

    Args:
        q: Queries.
        keys: The first ``ahead`` are in sight of all; then come ``size - 1`` of earlier tokens, and one for each query.
        values: Theirs.
        clock: Tokens of each row before the first query [batch]; keys before the stream are out of sight.
        size: Of the window.
        ahead: Keys that are always in sight.

    Examples:
        >>> import warnings
        >>> q, keys, values = torch.randn(1, 5, 2, 4), torch.randn(1, 7, 2, 4), torch.randn(1, 7, 2, 4)
        >>> with warnings.catch_warnings():  # that it is not compiled, where there is no GPU
        ...     warnings.simplefilter("ignore")
        ...     look_by_flex(q, keys, values, torch.tensor([0]), size=3).shape
        torch.Size([1, 5, 2, 4])
    """
    known = clock.to(q.device)

    mask = create_block_mask(
        lambda row, head, i, j: (j < ahead) | ((j - ahead >= i) & (j - ahead < i + size) & (j - ahead >= size - 1 - known[row])),
        q.shape[0],
        None,
        q.shape[1],
        keys.shape[1],
        device=str(q.device),
    )
    parts = (part.transpose(1, 2) for part in (q, keys, values))
    out: Any = _kernel(q.is_cuda)(*parts, block_mask=mask, enable_gqa=q.shape[2] != keys.shape[2])
    return out.transpose(1, 2)


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    """Flex attention; uncompiled it materialises all scores, which serves to compare with and nothing else."""
    return torch.compile(flex_attention) if compiled else flex_attention
