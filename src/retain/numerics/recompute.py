"""Trading time for memory: forget what a stretch of computation saved, and do it again when its gradient is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .any_order import wants_any_order


def recompute(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """``function(*inputs)``, keeping only the inputs for the backward pass.

    Within ``any_order`` it is no more than that call. ``function`` must depend on nothing that needs a gradient but its inputs, and give the same numbers twice. Autocast is as it was the first time.

    Args:
        function: From tensors to a tuple of tensors.
        inputs: Tensors, or None.

    Examples:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> (y,) = recompute(lambda x: (x * x,), x)
        >>> y.backward(); x.grad
        tensor([6.])
    """
    return function(*inputs) if wants_any_order() else _Recompute.apply(function, *inputs)


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor | None) -> tuple[Tensor, ...]:
        ctx.function = function
        tensors = [t for t in inputs if t is not None]
        ctx.present = [t is not None for t in inputs]
        ctx.save_for_backward(*tensors)
        ctx.device = tensors[0].device.type
        ctx.autocast = (torch.is_autocast_enabled(ctx.device), torch.get_autocast_dtype(ctx.device))
        with torch.no_grad():
            return tuple(t.clone() if any(t is u for u in tensors) else t for t in function(*inputs))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the gradient of a gradient cannot pass through recomputed tiles. Cure: an engine with recompute=0, as in engine=Dual(recompute=0), or to call "
                "the layer within retain.numerics.any_order()."
            )
        saved = iter(ctx.saved_tensors)
        needs = ctx.needs_input_grad[1:]
        inputs = [next(saved).detach().requires_grad_(need) if there else None for there, need in zip(ctx.present, needs, strict=True)]
        enabled, dtype = ctx.autocast
        with torch.enable_grad(), torch.autocast(ctx.device, dtype=dtype, enabled=enabled):
            outputs = ctx.function(*inputs)
        wanted = [t for t, need in zip(inputs, needs, strict=True) if t is not None and need]
        alive = [(o, g) for o, g in zip(outputs, grad_outputs, strict=True) if o.requires_grad and g is not None]
        found = iter(torch.autograd.grad([o for o, _ in alive], wanted, [g for _, g in alive], allow_unused=True))
        return (None, *(next(found) if t is not None and need else None for t, need in zip(inputs, needs, strict=True)))
