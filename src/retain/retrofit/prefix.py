"""What the layers below the first memory make of tokens: they are frozen, so it is computed once."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .attach import disable_memory, session_of
from .families import family_of

TOGETHER, STEP = 512, 8
"""Tokens that are computed at once, and the lengths that rows are filled up to. Both fixed, so that every sum is taken in the same order whatever else is
computed: what is kept of a row is the same to the last bit in a training that goes on as in one that was never stopped."""


class FrozenPrefix:
    """The stream at the first layer with a memory, row by row, kept for rows that come again.

    Training a memory in a late layer on pages that are read more than once costs only the layers from there on.

    Args:
        model: A model with memories.
        kept: What another one of the same base, with its first memory in the same layer, has kept.

    Raises:
        ValueError: It has none.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> prefix = FrozenPrefix(attach(base, MemoryConfig(layers=(1,), memory={"heads": 2})))
        >>> prefix([torch.arange(3), torch.arange(5)]).shape, len(prefix)
        (torch.Size([2, 5, 16]), 2)
    """

    def __init__(self, model: PreTrainedModel, kept: dict[bytes, Tensor] | None = None) -> None:
        self.model, self.first = model, session_of(model).places[0]
        self.kept = {} if kept is None else kept

    def __len__(self) -> int:
        return len(self.kept)

    @torch.no_grad()
    def __call__(self, rows: Sequence[Tensor]) -> Tensor:
        """The streams of rows of tokens, padded on the right [batch, time, dim]."""
        names = [row.cpu().numpy().tobytes() for row in rows]
        new = {name: row for name, row in zip(names, rows, strict=True) if name not in self.kept}
        if new:
            with disable_memory(self.model), some_layers(self.model, slice(0, self.first), norm=False):
                for length in sorted({_filled(row) for row in new.values()}):
                    self._compute({name: row for name, row in new.items() if _filled(row) == length}, length)
        return torch.nn.utils.rnn.pad_sequence([self.kept[name] for name in names], batch_first=True)

    def _compute(self, rows: Mapping[bytes, Tensor], length: int) -> None:
        """Keep what becomes of rows of about this length. Nothing real sees what they are filled up with, so there is no mask."""
        names, count = list(rows), max(1, TOGETHER // length)
        for some in (names[i : i + count] for i in range(0, len(names), count)):
            tokens = torch.zeros(count, length, dtype=torch.long)
            for i, name in enumerate(some):
                tokens[i, : len(rows[name])] = rows[name]
            hidden = self.model.get_decoder()(input_ids=tokens.to(self.model.device), use_cache=False).last_hidden_state
            self.kept |= {name: hidden[i, : len(rows[name])].clone() for i, name in enumerate(some)}


def _filled(row: Tensor) -> int:
    """The length that a row is filled up to."""
    return -(-len(row) // STEP) * STEP


def side_by_side(rows: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of tokens padded on the right [batch, time], and where there is a token."""
    pad = torch.nn.utils.rnn.pad_sequence
    tokens, mask = pad(list(rows), batch_first=True), pad([torch.ones_like(row) for row in rows], batch_first=True)
    return tokens.to(device), mask.to(device)


@contextmanager
def some_layers(model: PreTrainedModel, which: slice, *, norm: bool) -> Generator[None]:
    """Within, the decoder has only these of its layers, and the norm behind them or none."""
    decoder: Any = model.get_decoder()
    name = family_of(model).layers
    layers, last = decoder.get_submodule(name), decoder.norm
    setattr(decoder, name, layers[which])
    decoder.norm = last if norm else nn.Identity()
    try:
        yield
    finally:
        setattr(decoder, name, layers)
        decoder.norm = last
