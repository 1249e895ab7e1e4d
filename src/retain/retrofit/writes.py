"""Which tokens a memory writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class AbstractWrites(ABC):
    """A rule that says for each token whether the memories take a step for it. All tokens are read at."""

    @abstractmethod
    def mask(self, tokens: Tensor | None, like: Tensor) -> Tensor | None:
        """True where a token is written [batch, time]; None for all.

        Args:
            tokens: Their numbers [batch, time]; None if the model was given embeddings.
            like: Something [batch, time, ...] on the device where the mask is wanted.
        """


@dataclass(frozen=True)
class AllTokens(AbstractWrites):
    """Every token is written.

    Examples:
        >>> AllTokens().mask(None, torch.zeros(1, 2))
    """

    def mask(self, tokens: Tensor | None, like: Tensor) -> Tensor | None:
        return None


@dataclass(frozen=True)
class NoTokens(AbstractWrites):
    """Nothing is written: the memories stand still and answer.

    Examples:
        >>> NoTokens().mask(None, torch.zeros(1, 2)).tolist()
        [[False, False]]
    """

    def mask(self, tokens: Tensor | None, like: Tensor) -> Tensor | None:
        return torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
