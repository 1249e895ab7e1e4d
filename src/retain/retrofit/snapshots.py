"""What the memories of a conversation have learnt, on disk and back at the start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retain.core.errors import ForeignState, StateMismatch
from retain.core.state import MemoryState
from retain.storage import Format, sealed, unsealed, write_whole

from .attach import branches_of, decoder_of
from .cache import MemoryCache
from .store import memory_hash
from .writes import writes_from, writes_to

FORMAT = Format(name="retain.memory-snapshot", version="1", noun="snapshot of a conversation's memory", writer="save_memory")


def save_memory(cache: MemoryCache, model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write what the memories of a conversation have learnt, so that it can be gone on from, bit by bit.

    What attention keeps is left out, so the file is of one size however long the conversation was. It appears whole or not at all.

    Args:
        cache: The conversation; some of it has been read.
        model: The model that reads it.
        path: Where to; an existing file is replaced.

    Raises:
        ValueError: The cache is not one of the model, or nothing has been read.
        OSError: The file cannot be written. What stood at ``path`` still stands there.

    Examples:
        >>> import tempfile
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2})).eval()
        >>> cache = model(torch.arange(30)[None]).past_key_values
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_memory(cache, model, f"{folder}/tuesday.memory")
        ...     load_memory(model, f"{folder}/tuesday.memory").hash() == cache.hash()
        True
    """
    _check(cache, model)
    tensors = {f"memory/{number}/{name}": t for number, state in enumerate(cache.memories) for name, t in state.tensors()}
    rules = list(cache.marks)
    tensors |= {f"marks/{number}": cache.marks[rule] for number, rule in enumerate(rules)}
    header = {"model": memory_hash(model), "memories": str(len(cache.memories)), "marks": json.dumps([writes_to(rule) for rule in rules])}
    write_whole(Path(path), sealed(FORMAT, header, tensors))


def load_memory(model: nn.Module, path: str | os.PathLike[str]) -> MemoryCache:
    """A cache that goes on from what ``save_memory`` wrote, as if nothing had been attended to; positions begin at 0.

    Args:
        model: The model with the same memories, trained to the same weights.
        path: The file.

    Raises:
        NotAStateFile: The file is something else, a pickle for one.
        DamagedStateFile: It is cut short, or its bytes have changed.
        UnsupportedStateVersion: It was written in a format that this version does not know.
        ForeignState: It was written by a model whose memories have another configuration or other weights.
        OSError: The file cannot be read.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> import tempfile
        >>> from pathlib import Path
        >>> cache = model(torch.arange(6)[None], use_cache=True).past_key_values
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_memory(cache, model, Path(folder) / "tuesday.memory")
        ...     again = load_memory(model, Path(folder) / "tuesday.memory")
        >>> again.hash() == cache.hash(), again.get_seq_length()
        (True, 0)
    """
    decoder: Any = decoder_of(model)
    header, tensors = unsealed(FORMAT, path)
    if header["model"] != memory_hash(model):
        raise ForeignState(
            f"{path} was written by a model with other memories: theirs are named {header['model']}, this model's {memory_hash(model)}, by a hash of their "
            "configuration and weights. What a memory learnt means nothing in another. Cure: load the memories it was written with."
        )
    device = next(decoder.parameters()).device
    states = []
    for number in range(int(header["memories"])):
        prefix = f"memory/{number}/"
        states.append(MemoryState.of({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}).to(device))
    marks = {writes_from(rule): tensors[f"marks/{number}"] for number, rule in enumerate(json.loads(header["marks"]))}
    return MemoryCache(decoder.config, tuple(states), marks)


def reset_rows(cache: MemoryCache, model: nn.Module, rows: Tensor) -> MemoryCache:
    """The conversations with the memories of some rows back at the start; the cache itself is not changed.

    What attention keeps of these rows is not touched: take ``cache.memories_only()`` first if they are to begin anew altogether.

    Args:
        cache: The conversations.
        model: The model that reads them.
        rows: True for the rows that forget [batch].

    Raises:
        ValueError: The cache is not one of the model, or the mask not one of its rows.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> cache = model(torch.arange(12).view(2, 6), use_cache=True).past_key_values
        >>> fresh = reset_rows(cache, model, torch.tensor([True, False]))
        >>> fresh.hash() == cache.hash()
        False
    """
    _check(cache, model)
    if rows.dtype != torch.bool or rows.shape != (cache.rows,):
        raise ValueError(f"rows is a mask of {cache.rows} rows, got {rows.dtype} {list(rows.shape)}.")
    new = cache.fork()
    new.memories = tuple(branch.memory.reset(state, rows) for branch, state in zip(branches_of(model), cache.memories, strict=True))
    new.marks = {rule: kept.masked_fill(rows.to(kept.device)[:, None], 0) for rule, kept in cache.marks.items()}
    return new


def _check(cache: MemoryCache, model: nn.Module) -> None:
    count = len(branches_of(model))
    if not count or len(cache.memories) != count:
        raise StateMismatch(f"the cache holds {len(cache.memories)} memories and the model has {count}. Cure: a cache that this model has read with.")
