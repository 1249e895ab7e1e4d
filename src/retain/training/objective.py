"""What is minimised: the cross-entropy of the answers, and the write cost."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from retain.models import RetainCache, RetainForCausalLM


class Graded(NamedTuple):
    """What came of some tokens, as sums, so that parts and processes add up."""

    loss: Tensor  # summed over answers, without the write cost
    right: Tensor  # answers that the model would have given
    cost: Tensor  # the memories' write cost, summed over tokens


class Objective(nn.Module):
    """A model together with what it is asked, as one module that can be distributed.

    Args:
        model: The model.

    Examples:
        >>> import torch
        >>> from retain.models import RetainConfig
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
        >>> x = torch.zeros(1, 5, dtype=torch.long)
        >>> graded = Objective(model)(x, torch.ones_like(x).bool(), torch.ones_like(x).bool(), x, RetainCache())
        >>> graded.loss.shape
        torch.Size([])
    """

    def __init__(self, model: RetainForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, mask: Tensor, asked: Tensor, answers: Tensor, cache: RetainCache) -> Graded:
        """Read tokens [batch, time] and answer behind each that is ``asked``; the cache goes on."""
        out = self.model.model(tokens, mask, cache, use_cache=True, head=self.model.lm_head)
        hidden = out.last_hidden_state[asked]
        logits, wanted = self.model.lm_head(hidden).float(), answers[asked]
        loss = F.cross_entropy(logits, wanted, reduction="sum")
        right = (logits.detach().argmax(-1) == wanted).sum()
        return Graded(loss, right, loss.new_zeros(()) if out.write_cost is None else out.write_cost * mask.sum())
