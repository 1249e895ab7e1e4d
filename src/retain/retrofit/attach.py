"""Giving a pretrained model its memories, and taking them away."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from .branch import MemoryBranch
from .cache import MemoryCache
from .config import MemoryConfig
from .families import family_of
from .reading import Reading, Watcher
from .writes import AbstractWrites, NoTokens

Model = TypeVar("Model", bound=nn.Module)


class _Session:
    """What a decoder with memories is told from outside: its configuration, and what holds for the time being."""

    def __init__(self, config: MemoryConfig, count: int, trainable: tuple[str, ...]) -> None:
        self.config, self.count, self.trainable = config, count, trainable
        self.off = 0
        self.writes: AbstractWrites = config.writes
        self.watcher: Watcher | None = None


class _Attention:
    """An attention beside which there is a memory."""

    memory: MemoryBranch

    def forward(self, hidden_states: Tensor, *args: Any, reading: Reading | None = None, **kwargs: Any) -> tuple[Tensor, Any]:
        attended, weights = super().forward(hidden_states, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        return (attended if reading is None else self.memory(hidden_states, attended, reading)), weights


class _Decoder:
    """A decoder that hands the states of its memories from layer to layer, in and out of the cache."""

    session: _Session
    config: Any

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        write_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        base: Any = super()
        plain = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, **kwargs}
        session = self.session
        if session.off:
            return base.forward(input_ids, past_key_values=past_key_values, inputs_embeds=inputs_embeds, **plain)
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        if past_key_values is not None and not isinstance(past_key_values, MemoryCache):
            raise TypeError(
                f"a model with memories keeps them in a MemoryCache, and was given a {type(past_key_values).__name__}, in which they would be lost from call to "
                "call. Cure: past_key_values=MemoryCache(model.config), or none at all."
            )
        if past_key_values is None and (self.config.use_cache if use_cache is None else use_cache):
            past_key_values = MemoryCache(self.config)
        before = past_key_values.memories if past_key_values is not None else ()
        if before and (len(before) != session.count or before[0].batch != given.shape[0]):
            raise ValueError(
                f"the cache has {len(before)} memories of {before[0].batch} rows, the model {session.count} and the input {given.shape[0]} rows. Cure: a cache of "
                "this model; choose rows with cache.batch_select_indices, or repeat them with cache.batch_repeat_interleave."
            )
        embeddings = None
        if session.config.values == "embedding":
            inputs_embeds = embeddings = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # pyright: ignore[reportAttributeAccessIssue]
        mask = _mask(attention_mask, given)
        writes = session.writes.mask(input_ids, given)
        if write_mask is not None:
            writes = write_mask.bool() if writes is None else writes & write_mask.bool()
        reading = Reading(before or (None,) * session.count, mask, writes, embeddings, session.watcher)
        tokens = input_ids if embeddings is None else None
        out = base.forward(tokens, past_key_values=past_key_values, inputs_embeds=inputs_embeds, reading=reading, **plain)
        if past_key_values is not None:
            past_key_values.memories = reading.states()
        return out


class _CausalLM:
    """A language model whose ``generate`` keeps the memories from token to token."""

    config: Any

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], generation_mode: Any, batch_size: int, *args: Any, **kwargs: Any
    ) -> Any:
        session = self.get_decoder().session  # pyright: ignore[reportAttributeAccessIssue]
        if not session.off:
            kind, given = generation_config.cache_implementation, model_kwargs.get("past_key_values")
            if kind not in (None, "dynamic"):
                raise ValueError(f"memories are kept in a MemoryCache, which is dynamic; got cache_implementation={kind!r}. Cure: leave it out.")
            if given is None and generation_config.use_cache is not False:
                model_kwargs["past_key_values"] = MemoryCache(self.config)
            elif isinstance(given, MemoryCache) and given.rows and batch_size % given.rows == 0 and batch_size > given.rows:
                repeated = given.fork()
                repeated.batch_repeat_interleave(batch_size // given.rows)
                model_kwargs["past_key_values"] = repeated
            generation_config.cache_implementation = None
        base: Any = super()
        return base._prepare_cache_for_generation(generation_config, model_kwargs, generation_mode, batch_size, *args, **kwargs)


def attach(model: PreTrainedModel, config: MemoryConfig | None = None) -> PreTrainedModel:
    """Give a pretrained causal language model memories; its own weights are frozen.

    Args:
        model: The model; it is changed in place, and all its modules stay what and where they are.
        config: Which layers, and what memories.

    Returns:
        The model.

    Raises:
        ValueError: It is of a family that is not known, has memories already, has no such layers, or checkpoints its activations in a way that gives wrong
            gradients. Nothing has been changed.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> words = torch.arange(6)[None]
        >>> before = base(words).logits
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> torch.equal(model(words).logits, before)
        True
    """
    config = MemoryConfig() if config is None else config
    family = family_of(model)
    decoder: Any = model.get_decoder()
    if isinstance(decoder, _Decoder):
        raise ValueError("the model has memories already. Cure: detach(model) first.")
    attentions = family.attentions(model)
    places = config.places(len(attentions))
    dim = model.config.hidden_size
    branches = [MemoryBranch(dim, config, number) for number in range(len(places))]  # all that can fail has been done
    trainable = tuple(name for name, weight in model.named_parameters() if weight.requires_grad)
    model.requires_grad_(False)
    for place, branch in zip(places, branches, strict=True):
        attention: Any = attentions[place]
        attention.memory = branch.to(next(attention.parameters()).device)
        attention.__class__ = _beside(attention.__class__, _Attention)
    decoder.session = _Session(config, len(places), trainable)
    decoder.__class__ = _beside(decoder.__class__, _Decoder)
    model.__class__ = _beside(model.__class__, _CausalLM)
    return model


def detach(model: PreTrainedModel) -> PreTrainedModel:
    """Take a model's memories away: the same object as before ``attach``, with the same weights to be trained.

    Raises:
        ValueError: It has none.
    """
    session = session_of(model)
    for module in model.modules():
        if isinstance(module, _Attention):
            del module.memory
            module.__class__ = module.__class__.__mro__[2]  # pyright: ignore[reportAttributeAccessIssue]
    decoder: Any = model.get_decoder()
    del decoder.session
    decoder.__class__, model.__class__ = decoder.__class__.__mro__[2], model.__class__.__mro__[2]
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in session.trainable)
    return model


def branches_of(model: nn.Module) -> list[MemoryBranch]:
    """The branches of a model, from the first layer to the last; none if it has no memories. It may be wrapped, as by PEFT."""
    return [module for module in model.modules() if isinstance(module, MemoryBranch)]


def memory_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of a model's memories, which are what there is to train."""
    for branch in branches_of(model):
        yield from branch.parameters()


def settle(model: nn.Module, cache: MemoryCache) -> MemoryCache:
    """The cache with memories that have learnt all they read, the tokens of unfinished steps included; see ``NeuralMemory.settle``.

    To be called before the attention cache is cut off, ``settle(model, cache).memories_only()``: a memory that steps every 64 tokens else knows of the last 63
    only when the step is complete.

    Raises:
        ValueError: The cache is of another model, or has not been used.
    """
    branches = branches_of(model)
    if len(branches) != len(cache.memories):
        raise ValueError(
            f"the cache has {len(cache.memories)} memories and the model {len(branches)}. Cure: read something with this cache and model first."
        )
    return cache.with_memories(tuple(branch.memory.settle(state) for branch, state in zip(branches, cache.memories, strict=True)))


@contextmanager
def disable_memory(model: nn.Module) -> Generator[None]:
    """Within, the model is the base that it was, to the last bit, with any cache.

    Raises:
        ValueError: It has no memories.
    """
    session = session_of(model)
    session.off += 1
    try:
        yield
    finally:
        session.off -= 1


@contextmanager
def writing(model: nn.Module, writes: AbstractWrites | bool) -> Generator[None]:
    """Within, these tokens are written; False is none, and the memories stand still.

    Raises:
        ValueError: The model has no memories.
    """
    session = session_of(model)
    kept = session.writes
    session.writes = writes if isinstance(writes, AbstractWrites) else session.config.writes if writes else NoTokens()
    try:
        yield
    finally:
        session.writes = kept


def session_of(model: nn.Module) -> _Session:
    """What the decoder of a model is told, wrapped or not.

    Raises:
        ValueError: It has no memories.
    """
    for module in model.modules():
        if isinstance(module, _Decoder):
            return module.session
    raise ValueError("the model has no memories. Cure: attach(model, MemoryConfig(...)), or load(model, folder).")


@cache
def _beside(base: type, mixin: type) -> type:
    """A class that does what the mixin says before what the base does, under the name of the base."""
    return type(base.__name__, (mixin, base), {"__module__": base.__module__, "__doc__": base.__doc__})


def _mask(attention_mask: Any, given: Tensor) -> Tensor | None:
    if attention_mask is None:
        return None
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        raise ValueError(
            "memories need to know which tokens are padding: attention_mask must be [batch, time], 1 for a token and 0 for padding, or None; got "
            f"{list(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask).__name__}."
        )
    mask = attention_mask[:, -given.shape[1] :].bool()
    return None if bool(mask.all()) else mask
