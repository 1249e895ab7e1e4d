"""The plain interpreter of a structure: weights as they are."""

from torch import Tensor

from .contracts import AbstractReader
from .shapes import Params


class Plain(AbstractReader):
    """Reads a structure at weights that are written out.

    Examples:
        >>> import torch
        >>> Plain({"w": 2 * torch.eye(2)}).linear("w", torch.ones(1, 2))
        tensor([[2., 2.]])
    """

    def __init__(self, params: Params) -> None:
        self.params = params

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.params[name]

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self.params[name].unsqueeze(-2)

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self.params[name].unsqueeze(-2)
