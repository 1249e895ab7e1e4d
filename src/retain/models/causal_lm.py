"""A causal language model made of blocks around memories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from retain.blocks import LMM, MAC, MAG, MAL, AbstractMixer, AttentionOnly, Block, BlockState, Convolution, Gating, MemoryBeforeAttention
from retain.core.untraced import untraced
from retain.layers import RMS
from retain.layers.attention import AbstractAttention, Attention, AttentionMap
from retain.layers.described import memory_from, self_modifying_from
from retain.layers.implicit_mlp_attention import ImplicitMLPAttention
from retain.layers.nested_attention import NestedAttention
from retain.layers.rows import Rows

from .cache import RetainCache
from .config import RetainConfig
from .learning import Learning, States

if TYPE_CHECKING:
    from typing_extensions import Self  # of Python itself from 3.11 on


@dataclass
class RetainOutput(ModelOutput):
    """What a model says.

    Args:
        loss: Mean cross-entropy of the labels, and the write cost in its share; only with labels.
        logits: Scores of the next token [batch, kept, vocabulary].
        past_key_values: What to go on from.
        last_hidden_state: The stream behind the last block [batch, time, hidden].
        write_cost: How open the memories' gates stood, on average; only in training, and only if it has a share in the loss.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: RetainCache | None = None
    last_hidden_state: Tensor | None = None
    write_cost: Tensor | None = None


class RetainPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of all models here."""

    config_class = RetainConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _is_stateful = True

    def _init_weights(self, module: nn.Module) -> None:
        """Every module has started itself when it was made."""

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint, every_n_layers: int = 1
    ) -> None:
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant", False):
            raise ValueError(
                "activation checkpointing with use_reentrant=True gives wrong gradients where a state goes along: it does not see it. "
                "Cure: model.activation_checkpointing_enable({'use_reentrant': False}), which is the default."
            )
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, every_n_layers)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Self:
        """The model of a folder, as in transformers, but whole or not at all: no weight that it lacks is made up.

        Raises:
            ValueError: The folder lacks weights.
        """
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, about = loaded
        if about["missing_keys"]:
            raise ValueError(
                f"{pretrained_model_name_or_path} lacks weights of this model, such as {min(about['missing_keys'])}: another version of retain wrote it, or it "
                "is of another model. Cure: train it anew, or load it with the version that wrote it."
            )
        return loaded if output_loading_info else model


class RetainModel(RetainPreTrainedModel):
    """Tokens [batch, time] to the stream behind the last block [batch, time, hidden].

    Args:
        config: What it is made of.

    Examples:
        >>> model = RetainModel(RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, window=4))
        >>> model(torch.zeros(1, 6, dtype=torch.long)).last_hidden_state.shape
        torch.Size([1, 6, 8])
    """

    def __init__(self, config: RetainConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        nn.init.normal_(self.embed_tokens.weight, std=config.initializer_range)
        hidden = config.intermediate_size or -(-8 * config.hidden_size // 3 // 8) * 8
        shape: dict[str, Any] = {"levels": config.levels_of_blocks(), "form": config.level_form, "margin": config.write_margin}
        self.layers = nn.ModuleList(Block(_mixer(config, name), config.hidden_size, hidden, **shape) for name in config.blocks)
        self.norm = RMS().build(config.hidden_size)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RetainCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        write: bool = True,
        head: nn.Module | None = None,
        **_: Any,
    ) -> RetainOutput:
        """Read a stretch of each row's stream, and go on where ``past_key_values`` stopped.

        Args:
            input_ids: Tokens [batch, time].
            attention_mask: 1 where there is a token, 0 where there is padding, anywhere; its last ``time`` columns count. Padding leaves no trace.
            past_key_values: What the call before left behind.
            inputs_embeds: Their embeddings [batch, time, hidden], instead of tokens.
            use_cache: Whether to give back what to go on from.
            write: False forbids the memories and levels to learn; they still answer, and all else goes on as usual. Levels learn as if they had never been
                shown those tokens.
            head: From the stream behind the last block to scores of the next token. Levels learn from their loss; without it they stand still.

        Raises:
            ValueError: Neither or both of tokens and embeddings are given, the cache has other rows, or levels are to learn from embeddings or from
                activations that are not kept.
            RuntimeError: Levels are to learn in inference mode.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        batch, time = given.shape[:2]
        mask = None if attention_mask is None or bool(attention_mask[:, -time:].all()) else attention_mask[:, -time:].bool()
        rows = Rows.of(given, mask, None)
        before = RetainCache() if past_key_values is None else past_key_values
        if before.states and before.batch != batch:
            raise ValueError(f"the cache has {before.batch} rows and the input {batch}; choose rows with cache.reorder_cache.")
        states, unfinished = before.states, before.unfinished
        if write and head is not None and self.levels_learn:
            learning = self._learning(head, input_ids is not None)
            states = states or tuple(untraced(layer.start)(batch) for layer in self._blocks())
            x, states, costs, unfinished = untraced(learning)(rows.gather(given), states, rows.lengths, unfinished)
        else:
            x = self.embed_tokens(given) if inputs_embeds is None else inputs_embeds
            x, states, costs = self._read(rows.gather(x), states or (None,) * len(self.layers), rows.lengths, write)
        cache = None
        if use_cache if use_cache is not None else self.config.use_cache:
            cache = before
            cache.states, cache.seen, cache.unfinished = states, cache.seen + time, unfinished
        cost = None
        if self.training and self.config.write_cost:
            real = torch.arange(x.shape[1]) < rows.lengths[:, None]
            cost = costs[real.to(x.device)].mean()
        return RetainOutput(last_hidden_state=rows.scatter(x), past_key_values=cache, write_cost=cost)

    @property
    def levels_learn(self) -> bool:
        """Whether its blocks have levels that learn."""
        return any(block.continuum.fastest for block in self._blocks())

    def _blocks(self) -> list[Block]:
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def _read(self, x: Tensor, states: Sequence[BlockState | None], lengths: Tensor, write: bool = True) -> tuple[Tensor, States, Tensor]:
        """From embeddings [rows, time, hidden] to the stream behind the last block, the states behind, and the write costs [rows, time]. A block without a
        state starts within its own call, where weights that lie in shards are at hand.
        """
        after, costs = [], []
        for layer, state in zip(self._blocks(), states, strict=True):
            if self.gradient_checkpointing and self.training:
                x, state, cost = self._gradient_checkpointing_func(layer.__call__, x, state, lengths, write)
            else:
                x, state, cost = layer(x, state, lengths, write)
            after.append(state)
            costs.append(cost)
        return self.norm(x), tuple(after), torch.stack(costs).mean(0)

    def _learning(self, head: nn.Module, tokens: bool) -> Learning:
        if not tokens:
            raise ValueError("levels learn to foretell tokens, and were given inputs_embeds. Cure: input_ids, or write=False.")
        if self.gradient_checkpointing and self.training:
            raise ValueError(
                "levels learn by gradients of their own, for which activations are kept. Cure: model.activation_checkpointing_disable(), or levels=[]."
            )
        if torch.is_inference_mode_enabled():
            raise RuntimeError("levels learn by gradients, which torch.inference_mode() forbids. Cure: torch.no_grad(), or write=False.")
        return Learning(
            self._blocks(), lambda ids, states, lengths: self._read(self.embed_tokens(ids), states, lengths), head, self.config.through_levels
        )


class RetainForCausalLM(RetainPreTrainedModel, GenerationMixin):
    """A language model whose blocks remember.

    Args:
        config: What it is made of.

    Examples:
        >>> config = RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="mag", window=4)
        >>> model = RetainForCausalLM(config).eval()
        >>> model.generate(torch.zeros(1, 3, dtype=torch.long), max_new_tokens=2, do_sample=False).shape
        torch.Size([1, 5])
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: RetainConfig) -> None:
        super().__init__(config)
        self.model = RetainModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RetainCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        write: bool = True,
        logits_to_keep: int | Tensor = 0,
        **_: Any,
    ) -> RetainOutput:
        """Scores of the next token behind each token, and their loss.

        Args:
            input_ids: Tokens [batch, time].
            attention_mask: 1 where there is a token, 0 where there is padding, anywhere; its last ``time`` columns count.
            past_key_values: What the call before left behind.
            inputs_embeds: Their embeddings [batch, time, hidden], instead of tokens.
            labels: The tokens themselves where they are to be predicted, -100 elsewhere [batch, time].
            use_cache: Whether to give back what to go on from.
            write: False forbids the memories and levels to learn.
            logits_to_keep: How many of the last tokens are scored, 0 for all; or the places of those that are.

        Raises:
            ValueError: Labels do not fit the tokens, or only some tokens are scored.
        """
        out = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, write, self.lm_head)
        hidden = out.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else logits_to_keep
        logits = self.lm_head(hidden[:, kept] if isinstance(kept, (slice, Tensor)) else hidden)
        loss = None
        if labels is not None:
            if labels.shape != hidden.shape[:2] or logits.shape[1] != labels.shape[1]:
                raise ValueError(f"labels belong to all tokens, {list(hidden.shape[:2])}, with logits_to_keep=0; got {list(labels.shape)}.")
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
            if out.write_cost is not None:
                loss = loss + self.config.write_cost * out.write_cost
        return RetainOutput(loss, logits, out.past_key_values, hidden, out.write_cost)


def _mixer(config: RetainConfig, name: str) -> AbstractMixer:
    dim, persistent = config.hidden_size, config.persistent_tokens
    if name == "sliding_window":
        return AttentionOnly(_attention(config, config.window), dim, persistent=persistent)
    if name in ("attention", "hope_attention"):
        return AttentionOnly(_attention(config, None), dim, persistent=persistent)
    if name == "convolution":
        return Convolution(dim, config.window)
    if name == "hope":
        return LMM(self_modifying_from(config.self_modifying or {}, dim), persistent=persistent)
    memory, gating = memory_from(config.memory or {}, dim), Gating(kind=config.gating)  # pyright: ignore[reportArgumentType]
    if name == "lmm":
        return LMM(memory, persistent=persistent)
    attention = _attention(config, config.window)
    if name == "mac":
        assert isinstance(attention, AttentionMap)
        return MAC(memory, attention, persistent=persistent, gating=gating)
    if name == "mag":
        return MAG(memory, attention, persistent=persistent, gating=gating)
    return {"mal": MAL, "memory_before_attention": MemoryBeforeAttention}[name](memory, attention, persistent=persistent)


def _attention(config: RetainConfig, window: int | None) -> AbstractAttention:
    dim, heads, theta = config.hidden_size, config.num_attention_heads, config.rope_theta
    if config.attention != "softmax" and window is None:
        raise ValueError(f"attention={config.attention!r} looks back over a window; the blocks 'attention' and 'hope_attention' need 'softmax'.")
    if config.attention == "nested" and window:
        return NestedAttention(dim, heads=heads, window=window, theta=theta)
    if config.attention == "implicit_mlp" and window:
        width = dim // heads
        return ImplicitMLPAttention(dim, widths=(width, 2 * width, width), heads=heads, window=window, theta=theta)
    start: Any = config.attention_start
    return Attention(heads=heads, kv_heads=config.num_key_value_heads, window=window, theta=theta, start=start).build(dim)
