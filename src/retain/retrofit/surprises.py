"""How much each token surprised the memories."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .attach import attentions_of, session_of
from .reading import Reading, Watcher


class Surprises:
    """What surprised each branch, token by token; ``surprises`` makes one.

    Args:
        model: The model that is watched.
        inner: Who else watches.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> with torch.no_grad(), surprises(model) as seen:
        ...     _ = model(torch.arange(6)[None])
        >>> seen.by_token().shape
        torch.Size([1, 6])
    """

    def __init__(self, model: nn.Module, inner: Watcher | None) -> None:
        self.names, self.inner, self.margin = tuple(attentions_of(model)), inner, 0.0 if inner is None else inner.margin
        self._seen: list[list[Tensor]] = [[] for _ in self.names]

    def see(self, number: int, reading: Reading, gate: Tensor, openness: Tensor, surprise: Tensor, said: Tensor) -> None:
        """What a branch did, as ``Watcher`` has it."""
        each = surprise.detach().double().mean(-1)
        self._seen[number].append(each if reading.mask is None else each.masked_fill(~reading.mask, torch.nan))
        if self.inner is not None:
            self.inner.see(number, reading, gate, openness, surprise, said)

    def by_branch(self) -> dict[str, Tensor]:
        """The loss of each branch's memory on each token, on average over its heads [batch, time], padding NaN; by layer.

        Raises:
            ValueError: Nothing has been read.
        """
        if not all(self._seen):
            raise ValueError("nothing was read while the model was watched. Cure: call it within `with surprises(model) as seen:`.")
        return {name: torch.cat(calls, dim=1) for name, calls in zip(self.names, self._seen, strict=True)}

    def by_token(self) -> Tensor:
        """The same in units of each branch's mean, on average over the branches [batch, time]."""
        return torch.stack([each / each.nanmean() for each in self.by_branch().values()]).mean(0)


@contextmanager
def surprises(model: nn.Module) -> Generator[Surprises]:
    """Within, how much each token surprises each memory is kept, of calls that go on from each other; within ``watch`` as well as alone.

    Raises:
        ValueError: The model has no memories.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> with torch.no_grad(), surprises(model) as seen:
        ...     _ = model(torch.arange(6)[None])
        >>> seen.by_token().shape, round(seen.by_token().mean().item(), 6)
        (torch.Size([1, 6]), 1.0)
    """
    session = session_of(model)
    kept = session.watcher
    session.watcher = seen = Surprises(model, kept)
    try:
        yield seen
    finally:
        session.watcher = kept
