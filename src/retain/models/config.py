"""What a model is made of, as transformers keeps it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args

from transformers import PreTrainedConfig

from retain.layers import Level
from retain.layers.continuum import Form

BlockName = Literal["mac", "mag", "mal", "lmm", "hope", "hope_attention", "memory_before_attention", "sliding_window", "attention", "convolution"]
"""The blocks that a model can be made of; see ``retain.blocks``."""

LEVELS: tuple[dict[str, Any], ...] = (
    {"every": 16, "options": {"lr": 1e-2}, "learnt_rate": True},
    {"every": 64, "options": {"lr": 1e-2}, "learnt_rate": True},
)
"""The levels of a model with Hope's blocks that names none."""


class RetainConfig(PreTrainedConfig):
    r"""A stack of blocks around memories.

    Args:
        vocab_size: Tokens.
        hidden_size: Width of the stream.
        intermediate_size: Width inside the token-wise halves; None is about 8/3 of ``hidden_size``.
        num_hidden_layers: Blocks.
        num_attention_heads: Query heads of each attention.
        num_key_value_heads: Its key and value heads; None has as many.
        block: ``"mac"``, ``"mag"``, ``"mal"``, ``"lmm"``, ``"hope"``, ``"hope_attention"``, ``"memory_before_attention"``, ``"sliding_window"``,
            ``"attention"`` or ``"convolution"``, or a list with one name a layer. ``"hope_attention"`` is ``"attention"`` with levels.
        attention: ``"softmax"``, or titans-pytorch's ``"nested"`` or ``"implicit_mlp"``, which know neither persistent tokens nor MAC.
        attention_start: ``"plain"`` or ``"self"``, as in ``retain.layers.attention.Attention``; softmax attention alone has it.
        window: Tokens in attention's sight, or a convolution's; in MAC the length of a segment.
        persistent_tokens: Learnt tokens before every stream, for each block.
        memory: The memories, as ``retain.layers.described.memory_from`` reads them.
        self_modifying: Those of ``"hope"``, as ``retain.layers.described.self_modifying_from`` reads them.
        levels: How the token-wise halves of all blocks learn while they read: for each level the arguments of ``retain.layers.Level``. None stands still,
            but in a model with ``"hope"`` or ``"hope_attention"``, which then has ``LEVELS``; an empty list stands still there, too.
        level_form: How levels stand to each other, as ``form`` in ``retain.layers.ContinuumMemory``.
        through_levels: Whether the outer gradient flows through the steps of the levels. Without it a step is a constant to the outer gradient,
            which costs less.
        gating: How MAC and MAG join memory and attention: ``"sigmoid"``, ``"silu"`` or ``"add"``.
        rope_theta: Base of the rotary wavelengths.
        write_cost: How much of the memories' gates' openness is added to the loss (ours, not the papers').
        write_margin: By how much gates must be shut to cost nothing; see ``NeuralMemory.write_cost``.
        initializer_range: Standard deviation of the embedding at the start.

    Raises:
        ValueError: A block, a gating or a size makes no sense; the message names it.

    Examples:
        >>> RetainConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, block=["mag", "lmm"], window=8).blocks
        ['mag', 'lmm']
    """

    __no_type_check__ = True  # its __init__ takes what transformers' own configurations take, too
    model_type = "retain"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    vocab_size: int = 256
    hidden_size: int = 256
    intermediate_size: int | None = None
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    block: str | list[str] = "mac"
    attention: str = "softmax"
    attention_start: str = "plain"
    window: int = 64
    persistent_tokens: int = 4
    memory: dict[str, Any] | None = None
    self_modifying: dict[str, Any] | None = None
    levels: list[dict[str, Any]] | None = None
    level_form: str = "sequential"
    through_levels: bool = True
    gating: str = "sigmoid"
    rope_theta: float = 10_000.0
    write_cost: float = 0.0
    write_margin: float = 0.0
    initializer_range: float = 0.5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        unknown = sorted(set(self.blocks) - set(get_args(BlockName)))
        if unknown:
            raise ValueError(f"there is no block {', '.join(map(repr, unknown))}; choose among {', '.join(get_args(BlockName))}.")
        if len(self.blocks) != self.num_hidden_layers:
            raise ValueError(f"block names {len(self.blocks)} blocks, and num_hidden_layers is {self.num_hidden_layers}.")
        if self.attention not in ("softmax", "nested", "implicit_mlp"):
            raise ValueError(f"attention must be 'softmax', 'nested' or 'implicit_mlp', got {self.attention!r}.")
        if self.attention != "softmax" and (self.persistent_tokens or "mac" in self.blocks):
            raise ValueError(f"attention={self.attention!r} knows neither persistent tokens nor MAC; set persistent_tokens=0 and another block.")
        if self.attention_start not in ("plain", "self") or (self.attention_start == "self" and self.attention != "softmax"):
            raise ValueError(
                f"attention_start must be 'plain', or 'self' with softmax attention, got {self.attention_start!r} and {self.attention!r}."
            )
        if self.gating not in ("sigmoid", "silu", "add"):
            raise ValueError(f"gating must be 'sigmoid', 'silu' or 'add', got {self.gating!r}.")
        if self.level_form not in get_args(Form):
            raise ValueError(f"level_form must be one of {', '.join(get_args(Form))}, got {self.level_form!r}.")
        if self.levels is None and any(name.startswith("hope") for name in self.blocks):
            self.levels = [dict(level) for level in LEVELS]
        self.levels_of_blocks()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"num_attention_heads must divide hidden_size, got {self.num_attention_heads} and {self.hidden_size}.")
        super().__post_init__(**kwargs)

    @property
    def blocks(self) -> list[str]:
        """The name of each layer's block."""
        return [self.block] * self.num_hidden_layers if isinstance(self.block, str) else list(self.block)

    def levels_of_blocks(self) -> tuple[Level, ...]:
        """The levels of each block's token-wise half; one that never learns if there are none.

        Raises:
            ValueError: Their arguments make no sense.
        """
        known = [field.name for field in fields(Level)]
        for given in self.levels or ():
            unknown = sorted(set(given) - set(known))
            if unknown or "every" not in given:
                wrong = f"has no {', '.join(map(repr, unknown))}" if unknown else "needs 'every'"
                raise ValueError(f"a level {wrong}; it has {', '.join(known)}.")
        return tuple(Level(**given) for given in self.levels or ()) or (Level(every=0),)
