"""The non-linearities that a memory network may have."""

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

Activation = Literal["gelu", "silu", "relu", "tanh"]


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of that name."""
    if name not in get_args(Activation):
        raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {name!r}.")
    return getattr(F, name)
