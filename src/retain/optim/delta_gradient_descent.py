"""Gradient descent that unlearns what it overwrites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal
from weakref import finalize, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .matrices import as_matrix
from .optimizer import AbstractOptimizer, State, check_choice

Reduction = Literal["mean", "sum"]


class DeltaGradientDescent(AbstractOptimizer):
    r"""$W_{t+1} = W_t (I - \eta' x x^\top) - \eta'\,\nabla_y \mathcal L\,x^\top$ with $\eta' = \eta / (1 + \eta \lVert x \rVert^2)$, for inputs $x$ of any length.

    That is the minimiser of $\frac12 \lVert W x - u \rVert^2 + \frac{1}{2\eta} \lVert W - W_t \rVert_F^2$ with $u = -\nabla_y \mathcal L$ at $W_t$. For many inputs $X$ it
    is $W_{t+1} = (W_t - \eta\,G)(I + \eta X X^\top)^{-1}$, which needs the inputs and the gradient $G$ alone and is solved on the smaller side. The step is no plain
    minimiser of $\mathcal L$: directions that an input has decay, so that for $\mathcal L = \frac12 \lVert W x - y \rVert^2$ it comes to rest at $W x = y / 2$.

    Weights of ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` move so; their inputs, a convolution's patches, are noted while gradients flow back through the
    layer, and forgotten with ``step`` and ``zero_grad``. All other parameters move by plain gradient descent, biases among them. From outside, ``advance`` finds
    the inputs [*lead, inputs, columns] in ``state["inputs"]``. A copy of the optimizer has no layers to listen to; make one of the copied module.
    Source: Nested Learning equations 54 to 58 and 112 to 121.

    Args:
        module: What is to learn.
        lr: $\eta$.
        reduction: ``"mean"`` if the loss is a mean over inputs, as those of torch are, which makes $X X^\top$ a mean, too; ``"sum"`` if it is a sum.

    Raises:
        ValueError: ``lr`` is negative, or ``reduction`` is unknown.
        RuntimeError: From a step of a copy.

    Examples:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> optimizer = DeltaGradientDescent(layer, lr=1.0)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     (layer(torch.tensor([[2.0, 0.0]])) - 1).square().sum().div(2).backward()
        ...     optimizer.step()
        >>> layer.weight.data
        tensor([[0.2500, 0.0000]])
    """

    def __init__(self, module: nn.Module, lr: float | Tensor = 1e-2, reduction: Reduction = "mean") -> None:
        super().__init__(module.parameters(), lr=lr, reduction=reduction)
        self._inputs: dict[Tensor, list[Tensor]] = {}
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and isinstance(layer.weight, nn.Parameter):
                self._inputs[layer.weight] = []
                finalize(self, layer.register_forward_hook(_listener(self), with_kwargs=True).remove)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_choice(f"{cls.__name__}.reduction", options["reduction"], Reduction)

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        after = weight - options["lr"] * gradient
        if "inputs" not in state:
            return after, {}
        exact = torch.promote_types(weight.dtype, torch.float32)
        w, x = as_matrix(after, lead).to(exact), state["inputs"].to(exact)
        return _unlearnt(w, x, options["lr"]).to(weight.dtype).reshape(weight.shape), {}

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        for weight, gradient, state in zip(weights, gradients, states, strict=True):
            groups = len(state["inputs"]) if state else 1
            after, _ = cls.advance(_split(weight, groups), _split(gradient, groups), state, options, lead=1)
            weight.copy_(after.reshape(weight.shape))
        return [{} for _ in weights]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not hasattr(self, "_inputs"):
            raise RuntimeError(
                "A copy of DeltaGradientDescent has no layers to listen to; make one of the copied module, and load the state dict of this one."
            )
        loss = super().step(closure)
        self._forget()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._forget()

    def note(self, layer: nn.Module, x: Tensor) -> None:
        """Keep a layer's inputs until the next step."""
        self._inputs[layer.weight].append(_inputs_of(layer, x))  # pyright: ignore[reportArgumentType]

    def hears(self, layer: nn.Module) -> bool:
        """Whether this is a layer whose inputs are asked for, and no copy of one."""
        weight = layer.weight
        return isinstance(weight, Tensor) and weight.requires_grad and weight in getattr(self, "_inputs", {})

    def _before(self, weight: Tensor, group: Mapping[str, Any]) -> State:
        noted = self._inputs.get(weight)
        if not noted:
            return {}
        return {"inputs": torch.cat([x / x.shape[1] ** 0.5 if group["reduction"] == "mean" else x for x in noted], dim=1)}

    def _forget(self) -> None:
        for noted in getattr(self, "_inputs", {}).values():
            noted.clear()


def _listener(optimizer: DeltaGradientDescent) -> Callable[..., None]:
    """A hook on a forward pass that notes its input when a gradient comes back; it keeps neither the optimizer alive nor what no gradient comes back through."""
    listening = ref(optimizer)

    def listen(layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        optimizer = listening()
        if optimizer is None or not output.requires_grad or not optimizer.hears(layer):
            return
        x: Tensor = (args[0] if args else named["input"]).detach()

        def note(_: Tensor) -> None:
            optimizer = listening()
            if optimizer is not None:
                optimizer.note(layer, x)

        output.register_hook(note)

    return listen


def _inputs_of(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer's weight is multiplied with [groups, inputs, columns]."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    axes = len(layer.kernel_size)
    x = x if x.ndim == axes + 2 else x.unsqueeze(0)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    flat = (1,) * (2 - axes)
    x = x.unsqueeze(2) if flat else x
    patches = F.unfold(x, flat + layer.kernel_size, dilation=flat + layer.dilation, stride=flat + layer.stride)
    return patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def _split(x: Tensor, groups: int) -> Tensor:
    return x.reshape(groups, -1, *x.shape[1:]) if x.ndim > 1 else x.unsqueeze(0)


def _unlearnt(w: Tensor, x: Tensor, lr: float | Tensor) -> Tensor:
    r"""$W (I + \eta X X^\top)^{-1}$ for the rows of ``x``."""
    inputs, columns = x.shape[-2:]
    identity = torch.eye(min(inputs, columns), dtype=x.dtype, device=x.device)
    if inputs < columns:
        return w - lr * (w @ x.mT) @ torch.linalg.solve(identity + lr * (x @ x.mT), x)
    return torch.linalg.solve(identity + lr * (x.mT @ x), w, left=False)
