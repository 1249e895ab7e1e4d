"""An orthogonal matrix near a given one, by products alone."""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
from torch import Tensor

_COEFFICIENTS = {"quintic": (3.4445, -4.7750, 2.0315), "cubic": (1.5, -0.5, 0.0)}


def newton_schulz(x: Tensor, steps: int = 5, kind: Literal["quintic", "cubic"] = "quintic") -> Tensor:
    r"""About $U V^\top$ for $x = U \Sigma V^\top$: the iteration $X \leftarrow a X + (b\,XX^\top + c\,(XX^\top)^2) X$ from $x / \lVert x \rVert_F$.

    The quintic one's coefficients are chosen for speed: after five steps singular values lie between about 0.7 and 1.2, and never come to 1. The cubic one,
    $a = 3/2$, $b = -1/2$, $c = 0$, comes to 1 in the end, after the more steps the smaller they were. A zero matrix stays zero, and so do its gradients.
    Source: Muon; Nested Learning section 4.

    Args:
        x: Matrices [..., m, n].
        steps: Iterations.
        kind: Which one.

    Examples:
        >>> values = torch.linalg.svdvals(newton_schulz(torch.randn(8, 4)))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    shape, tall = x.shape, x.shape[-2] > x.shape[-1]
    x = x.reshape(prod(shape[:-2]), *shape[-2:]) if x.ndim > 2 else x
    add = torch.baddbmm if x.ndim > 2 else torch.addmm
    x = x.mT if tall else x
    squares = x.square().sum((-1, -2), keepdim=True)
    x = x / torch.where(squares > 0, squares, 1.0).sqrt().clamp(min=1e-7)
    a, b, c = _COEFFICIENTS[kind]
    for _ in range(steps):
        gram = x @ x.mT
        x = add(x, add(gram, gram, gram, beta=b, alpha=c), x, beta=a) if c else add(x, gram, x, beta=a, alpha=b)
    return (x.mT if tall else x).reshape(shape)
