"""A model on its way through rows of tokens, with what it keeps of them and nothing else."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retain.blocks import Block, BlockState
from retain.core.state import MemoryState
from retain.engines import Materialised, folded
from retain.layers import NeuralMemory, SelfModifyingMemory
from retain.models import RetainCache

from .control import AbstractCut


@contextmanager
def at_rest(model: nn.Module) -> Generator[None, None, None]:
    """No gradients and no training inside the block; afterwards the model's modules are in the modes that they were in.

    Examples:
        >>> layer = nn.Dropout()
        >>> with at_rest(layer):
        ...     layer.training, torch.is_grad_enabled()
        (False, False)
        >>> layer.training
        True
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Stream:
    """Rows of tokens, read piece by piece.

    Args:
        model: A causal language model of transformers: it takes ``input_ids``, ``past_key_values``, ``use_cache`` and ``logits_to_keep``.
        write: Whether its memories may write.
        cache: What it goes on from; None at the start of the rows.

    Raises:
        ValueError: Memories may not write, and the model cannot be told so.

    Examples:
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, window=4))
        >>> with at_rest(model):
        ...     Stream(model).read(torch.zeros(1, 6, dtype=torch.long), torch.tensor([0, 5])).shape
        torch.Size([1, 2, 16])
    """

    def __init__(self, model: nn.Module, write: bool = True, cache: Any = None) -> None:
        if not write and "write" not in inspect.signature(model.forward).parameters:
            raise ValueError(
                f"{type(model).__name__}.forward has no argument `write`, so its memories cannot be forbidden to write. "
                "Cure: leave such controls out, as in controls=()."
            )
        self.model, self.write, self.cache = model, write, cache

    def read(self, tokens: Int[Tensor, "batch time"], wanted: Int[Tensor, " wanted"]) -> Float[Tensor, "batch wanted vocabulary"]:
        """Go on by these tokens. Returns the scores of what follows the tokens at the places ``wanted``, on the model's device."""
        device, how = device_of(self.model), {} if self.write else {"write": False}
        out = self.model(input_ids=tokens.to(device), past_key_values=self.cache, use_cache=True, logits_to_keep=wanted.to(device), **how)
        self.cache = out.past_key_values
        return out.logits

    def fork(self) -> Stream:
        """A stream that goes on from here by itself."""
        cache = self.cache.fork() if hasattr(self.cache, "fork") else copy.deepcopy(self.cache)
        return Stream(self.model, self.write, cache)

    def cut(self, control: AbstractCut, rows: Bool[Tensor, " batch"]) -> None:
        """Do to the chosen rows what the control says.

        Raises:
            ValueError: The model keeps no states of blocks.
        """
        states = getattr(self.cache, "states", ())
        starts = starts_of(self.model, len(rows))
        if len(states) != len(starts) or not states:
            raise ValueError(
                f"the control {control.name!r} cuts into what blocks around memories keep, and {type(self.model).__name__} keeps none. "
                "Cure: leave it out, as in controls=()."
            )
        self.cache.states = tuple(_cut(control, state, start, rows) for state, start in zip(states, starts, strict=True))
        if self.cache.unfinished is not None:
            self.cache.unfinished = self.cache.unfinished.without(rows)

    def bytes_per_row(self) -> int | None:
        """What is kept of each row, in bytes; None if the cache does not tell."""
        if isinstance(self.cache, RetainCache):
            return self.cache.bytes_per_row()
        kept = [getattr(layer, name, None) for layer in getattr(self.cache, "layers", ()) for name in ("keys", "values")]
        tensors = [tensor for tensor in kept if isinstance(tensor, Tensor)]
        if not tensors or len(tensors) < len(kept):
            return None
        return sum(tensor.numel() * tensor.element_size() // tensor.shape[0] for tensor in tensors)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def starts_of(model: nn.Module, batch: int) -> tuple[BlockState, ...]:
    """What each block of a model starts from, in their order; of its memories the weights, without tokens that wait to be folded in.

    Examples:
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> config = RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, block="mag", persistent_tokens=3)
        >>> [start.memories["memory"].pending for start in starts_of(RetainForCausalLM(config), batch=1)]
        [None, None]
    """
    return tuple(_settled(block, block.start(batch)) for block in model.modules() if isinstance(block, Block))


def _settled(block: Block, start: BlockState) -> BlockState:
    return replace(start, memories={name: _folded(block.mixer.get_submodule(name), state) for name, state in start.memories.items()})


def _folded(memory: nn.Module, state: MemoryState) -> MemoryState:
    """The state with all whole steps folded and a boundary behind them: memories read their persistent tokens when they start."""
    if isinstance(memory, SelfModifyingMemory):
        return replace(state, anchor=state.accumulator)
    assert isinstance(memory, NeuralMemory), "a block names the state of a memory after the memory"
    rule, whole = memory.rule, folded(Materialised(), memory.rule, state)
    anchor = whole.anchor if rule.update_every is None else whole.accumulator
    return replace(whole, anchor=anchor, pending=None)


def _cut(control: AbstractCut, state: BlockState, start: BlockState, rows: Tensor) -> BlockState:
    after = control.cut(state, start)
    return after if bool(rows.all()) else BlockState.where(rows, after, state)
