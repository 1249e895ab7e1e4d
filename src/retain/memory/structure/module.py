"""A memory that is any torch module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from retain.core.contracts import AbstractReader, AbstractStructure
from retain.core.reader import Plain


@dataclass(frozen=True, kw_only=True)
class Module(AbstractStructure):
    r"""$M(x) = \texttt{module}(x)$, whose parameters are the memory. Each head begins with those that the module has now.

    The module maps [tokens, key] to [tokens, value], treats each token by itself, and keeps nothing from call to call. It is called as a whole, so its
    gradients are written out: a structure in the reader's words (see ``MLP``) is faster. Source: titans-pytorch takes any module as its ``model``.

    Args:
        module: Who it is. It is never changed.

    Raises:
        ValueError: The module has buffers, or no parameters; from a layer, its output is not as wide as a value.

    Examples:
        >>> net = Module(module=nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)))
        >>> {name: tuple(w.shape) for name, w in net.init(heads=2, key_dim=4, value_dim=4).items()}
        {'0-weight': (2, 8, 4), '0-bias': (2, 8), '2-weight': (2, 4, 8), '2-bias': (2, 4)}
    """

    module: nn.Module

    def __post_init__(self) -> None:
        buffers = [name for name, _ in self.module.named_buffers()]
        if buffers:
            raise ValueError(f"a memory keeps all it knows in its weights, but this module has buffers: {', '.join(buffers)}.")
        if not any(True for _ in self.module.parameters()):
            raise ValueError("this module has no parameters, so as a memory it could not change.")

    @property
    def factored(self) -> bool:
        return False

    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        with torch.no_grad():
            some = next(self.module.parameters())
            got = tuple(self.module(some.new_zeros(2, key_dim)).shape)
        if got != (2, value_dim):
            raise ValueError(f"the module maps 2 keys of width {key_dim} to shape {list(got)}; a memory needs values of width {value_dim}.")
        return {name.replace(".", "-"): w.detach().expand(heads, *w.shape).clone() for name, w in self.module.named_parameters()}

    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        if not isinstance(weights, Plain):
            raise TypeError("a module is read at weights that are written out; use the engine 'materialised' or 'recurrent'.")

        def call(params: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.module, params, (x,))

        for _ in range(x.ndim - 2):
            call = vmap(call)
        return call({name: weights.params[name.replace(".", "-")] for name, _ in self.module.named_parameters()}, x)

    def rate_bound(self, key_dim: int) -> float:
        return 1.0 / (key_dim * sum(p.ndim > 1 for p in self.module.parameters()))
