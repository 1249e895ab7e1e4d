"""The minimiser of a smooth function, found by LBFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FOUND = {torch.float64: 1e-6}  # how close LBFGS comes


def argmin(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    search = torch.optim.LBFGS([x], max_iter=300, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(x)
        value.backward()
        return value

    for _ in range(3):
        search.step(closure)
    return x.detach()
