"""Derivatives of any order: of what is computed here, the gradient of a gradient of a gradient is right."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_WANTED = ContextVar("derivatives of any order", default=False)


@contextmanager
def any_order() -> Generator[None]:
    """Within, all that is computed has right derivatives of any order, for more time and memory.

    Nothing is recomputed. Attention is computed from plain products: torch's kernels for it have no second derivative. So is the normalisation of layers:
    torch's own has a third derivative that is wrong (2.13).

    Examples:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> with any_order():
        ...     y = layer_norm(torch.cat([x, x * x]), eps=0.1)
        >>> (slope,) = torch.autograd.grad(y[0], x, create_graph=True)
        >>> slope.requires_grad
        True
    """
    before = _WANTED.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _WANTED.reset(before)


def wants_any_order() -> bool:
    """Whether this is said within ``any_order``."""
    return _WANTED.get()


def layer_norm(x: Tensor, eps: float) -> Tensor:
    r"""$(x - \mathrm{mean}(x)) / \sqrt{\mathrm{var}(x) + \epsilon}$ over the last axis.

    Examples:
        >>> layer_norm(torch.tensor([1.0, 3.0]), eps=0.0)
        tensor([-1.,  1.])
    """
    if not wants_any_order():
        return F.layer_norm(x, x.shape[-1:], eps=eps)
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
