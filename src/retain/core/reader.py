"""The plain interpreter of a structure: weights as they are."""

import torch
from torch import Tensor

from .contracts import AbstractReader
from .shapes import Params


class Plain(AbstractReader):
    """Reads a structure at weights that are written out.

    Examples:
        >>> import torch
        >>> Plain({"w": 2 * torch.eye(2)}).linear("w", torch.ones(1, 2))
        tensor([[2., 2.]])

    Args:
        params: The weights.
        seen: Tokens [..., tokens] that later ones may see, where the structure lets them see each other; None means all.
    """

    def __init__(self, params: Params, seen: Tensor | None = None) -> None:
        self.params, self.seen = params, seen

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.params[name]

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self.params[name].unsqueeze(-2)

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self.params[name].unsqueeze(-2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        scores = q @ k.transpose(-1, -2) * scale
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if self.seen is not None:
            visible = visible & (self.seen.unsqueeze(-2) | torch.eye(scores.shape[-1], dtype=torch.bool, device=q.device))
        return scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v
