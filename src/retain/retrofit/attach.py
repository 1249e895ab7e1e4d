"""Giving a pretrained model its memories, and taking them away."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.generation.configuration_utils import GenerationMode

from retain.core.state import MemoryState

from .branch import MemoryBranch
from .cache import MemoryCache
from .checkpointing import Checkpointed, refuse_reentrant
from .config import MemoryConfig
from .families import family_of
from .reading import Reading, Watcher
from .writes import AbstractWrites, NoTokens

Model = TypeVar("Model", bound=nn.Module)


class _Session:
    """What a decoder with memories is told from outside: its configuration, and what holds for the time being."""

    def __init__(self, config: MemoryConfig, places: tuple[int, ...], branches: list[MemoryBranch], trainable: dict[str, bool]) -> None:
        self.config, self.places, self.trainable = config, places, trainable
        self.layout = [_layout(branch.memory.start(1)) for branch in branches]
        self.off = 0
        self.writes: AbstractWrites = config.writes
        self.watcher: Watcher | None = None


class _Attention:
    """An attention beside which there is a memory."""

    memory: MemoryBranch

    def forward(self, hidden_states: Tensor, *args: Any, reading: Reading | None = None, **kwargs: Any) -> tuple[Tensor, Any]:
        attended, weights = super().forward(hidden_states, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        return (attended if reading is None else self.memory(hidden_states, attended, reading)), weights


class _Decoder(Checkpointed):
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
        embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        base: Any = super()
        plain = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, **kwargs}
        session = self.session
        count = len(session.places)
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
        if before and (len(before) != count or before[0].batch != given.shape[0] or [_layout(state) for state in before] != session.layout):
            raise ValueError(
                f"the cache has {len(before)} memories of {before[0].batch} rows, the model {count} and the input {given.shape[0]} rows, and if these agree, "
                "its memories have weights of another shape. Cure: a cache of this model; choose rows with cache.batch_select_indices, or repeat them with "
                "cache.batch_repeat_interleave."
            )
        if session.config.values == "embedding" and embeddings is None:
            inputs_embeds = embeddings = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # pyright: ignore[reportAttributeAccessIssue]
        mask = _mask(attention_mask, given)
        real = torch.ones(given.shape[:2], dtype=torch.bool, device=given.device) if mask is None else mask
        marks = {} if past_key_values is None else past_key_values.marks
        masks = {rule: rule.mask(input_ids, real, marks.get(rule)) for rule in (session.config.writes, session.writes)}
        writes = masks[session.writes][0]
        if write_mask is not None:
            writes = write_mask.bool() if writes is None else writes & write_mask.bool()
        reading = Reading(before or (None,) * count, mask, writes, session.writes.least, embeddings, session.watcher)
        tokens = input_ids if inputs_embeds is None else None
        out = base.forward(tokens, past_key_values=past_key_values, inputs_embeds=inputs_embeds, reading=reading, **plain)
        if past_key_values is not None:
            past_key_values.memories = reading.states()
            past_key_values.marks = {rule: after for rule, (_, after) in masks.items() if after is not None}
        return out


class _CausalLM(Checkpointed):
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
            if generation_mode == GenerationMode.ASSISTED_GENERATION or generation_config.is_assistant:
                raise ValueError(
                    "assisted and speculative decoding take tokens back, and a memory cannot unlearn them. Cure: generate without an assistant and without "
                    "prompt_lookup_num_tokens, or within disable_memory(model)."
                )
            if given is not None and generation_config.use_cache is False:
                raise ValueError(
                    "without use_cache each step reads all tokens anew, and would write them anew into the memories of past_key_values. Cure: leave out one of the two."
                )
            if given is None and generation_config.use_cache is not False:
                model_kwargs["past_key_values"] = MemoryCache(self.config)
            times = max(generation_config.num_beams, generation_config.num_return_sequences)
            if isinstance(given, MemoryCache) and times > 1 and given.rows == batch_size:
                model_kwargs["past_key_values"] = repeated = given.fork()
                repeated.batch_repeat_interleave(times)
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
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> before = base(torch.arange(6)[None]).logits
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> torch.equal(model(torch.arange(6)[None]).logits, before)
        True
    """
    config = MemoryConfig() if config is None else config
    return put(model, config, planned(model, config))


def planned(model: PreTrainedModel, config: MemoryConfig) -> dict[str, MemoryBranch]:
    """The branches that a model would be given, by the names of the attentions in its decoder. The model is not touched.

    Raises:
        ValueError: As ``attach``.
    """
    if not isinstance(model, PreTrainedModel) or model.get_decoder() is model:
        raise ValueError(
            f"attach takes a pretrained model with its head, as AutoModelForCausalLM loads it; got {type(model).__name__}. Cure: of a decoder, the model that it is "
            "of; of a model wrapped by PEFT, model.get_base_model()."
        )
    family = family_of(model)
    decoder = model.get_decoder()
    if isinstance(decoder, _Decoder):
        raise ValueError("the model has memories already. Cure: detach(model) first.")
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            refuse_reentrant(module._gradient_checkpointing_func)
    attentions = family.attentions(model)
    names = {id(module): name for name, module in decoder.named_modules()}
    places, dim = config.places(len(attentions)), model.config.hidden_size
    return {names[id(attentions[place])]: MemoryBranch(dim, config, number) for number, place in enumerate(places)}


def put(model: PreTrainedModel, config: MemoryConfig, branches: Mapping[str, MemoryBranch]) -> PreTrainedModel:
    """Give a model the branches that were planned for it; nothing can fail any more."""
    decoder: Any = model.get_decoder()
    places = config.places(len(family_of(model).attentions(model)))
    trainable = {name: weight.requires_grad for name, weight in model.named_parameters()}
    model.requires_grad_(False)
    for name, branch in branches.items():
        attention: Any = decoder.get_submodule(name)
        attention.memory = branch.to(next(attention.parameters()).device)
        attention.__class__ = _beside(attention.__class__, _Attention)
    decoder.session = _Session(config, places, [*branches.values()], trainable)
    decoder.__class__ = _beside(decoder.__class__, _Decoder)
    model.__class__ = _beside(model.__class__, _CausalLM)
    return model


def detach(model: PreTrainedModel) -> PreTrainedModel:
    """Take a model's memories away: the same object as before ``attach``, with the same weights to be trained.

    Raises:
        ValueError: It has none, or its modules have been given other classes since. Nothing has been changed.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> branches_of(detach(model))
        []
    """
    session = session_of(model)
    changed: list[Any] = [module for module in model.modules() if isinstance(module, _Attention | _Decoder | _CausalLM)]
    if not all(type(module).__bases__[0] in (_Attention, _Decoder, _CausalLM) for module in changed):
        raise ValueError("modules of the model have been given other classes since attach, as fully_shard does. Cure: detach(model) before that.")
    for module in changed:
        if isinstance(module, _Attention):
            del module.memory
        if isinstance(module, _Decoder):
            del module.session
        module.__class__ = type(module).__bases__[1]
    for name, weight in model.named_parameters():
        weight.requires_grad_(session.trainable.get(name, weight.requires_grad))
    return model


def branches_of(model: nn.Module) -> list[MemoryBranch]:
    """The branches of a model, from the first layer to the last; none if it has no memories. It may be wrapped, as by PEFT.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> len(branches_of(model))
        2
    """
    return [module for module in model.modules() if isinstance(module, MemoryBranch)]


def memory_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of a model's memories, which are what there is to train.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> sum(w.numel() for w in memory_parameters(model)) == sum(w.numel() for w in model.parameters() if w.requires_grad)
        True
    """
    for branch in branches_of(model):
        yield from branch.parameters()


def memory_config(model: nn.Module) -> MemoryConfig:
    """What a model was given by ``attach`` or ``load``.

    Raises:
        ValueError: It has no memories.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> memory_config(model) == MemoryConfig()
        True
    """
    return session_of(model).config


def settle(model: nn.Module, cache: MemoryCache) -> MemoryCache:
    """The cache with memories that have learnt all they read, the tokens of unfinished steps included; see ``NeuralMemory.settle``.

    To be called before the attention cache is cut off, ``settle(model, cache).memories_only()``: a memory that steps every 128 tokens else knows of the last 127
    only when the step is complete.

    Raises:
        ValueError: The cache is of another model, or has not been used.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> settle(model, model(torch.arange(6)[None], use_cache=True).past_key_values).memories_only().get_seq_length()
        0
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

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> with disable_memory(model):
        ...     said = model(torch.arange(6)[None]).logits
        >>> torch.equal(said, detach(model)(torch.arange(6)[None]).logits)
        True
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

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> with writing(model, False):
        ...     cache = model(torch.arange(6)[None], use_cache=True).past_key_values
        >>> cache.get_seq_length()  # attention read them all the same
        6
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
    session = decoder_of(model).session
    assert isinstance(session, _Session)
    return session


def decoder_of(model: nn.Module) -> nn.Module:
    """The decoder of a model with memories, wrapped or not.

    Raises:
        ValueError: It has none.
    """
    for module in model.modules():
        if isinstance(module, _Decoder):
            assert isinstance(module, nn.Module)
            return module
    raise ValueError("the model has no memories. Cure: attach(model, MemoryConfig(...)), or load(model, folder).")


def attentions_of(model: nn.Module) -> dict[str, nn.Module]:
    """The attentions beside which there are memories, by their names in the decoder, from the first layer to the last.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> model = attach(LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval())
        >>> list(attentions_of(model))
        ['layers.0.self_attn', 'layers.1.self_attn']
    """
    return {name: module for name, module in decoder_of(model).named_modules() if isinstance(getattr(module, "memory", None), MemoryBranch)}


@cache
def _beside(base: type, mixin: type) -> type:
    """A class that does what the mixin says before what the base does, under the name of the base."""
    return type(base.__name__, (mixin, base), {"__module__": base.__module__, "__doc__": base.__doc__})


def _layout(state: MemoryState) -> tuple[int, dict[str, torch.Size]]:
    """What tells the states of one memory from those of another."""
    return len(state.moments), {name: weight.shape[1:] for name, weight in state.accumulator.items()}


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
