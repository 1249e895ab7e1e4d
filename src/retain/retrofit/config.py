"""What memory a pretrained model is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from .writes import AbstractWrites, AllTokens, writes_from, writes_to

PLAIN: Mapping[str, Any] = {
    "rule": {"update_every": 128, "step_every": 128},
    "change": {"structure": {"name": "NormResidual", "inner": {"name": "MLP", "expansion": 2, "activation": "silu"}}},
    "heads": 2,
    "head_dim": 64,
    "projections": {"conv": 1},
    "output": {"norm": None, "gate": None},
}
"""A memory that is cheap enough to stand beside every layer: Titans' of two layers, with a step for each 128 tokens, which wait as they come. The stream that it
reads has been mixed by attention and normalised, and its answer is normalised by its structure and gated by the branch, so that a convolution, a norm and a gate
of its own are left out."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    r"""A memory beside the attention of decoder layers: $h = x + (1 - g)\,\mathrm{attn} + g\,M(\tilde q)$ with $g = \tanh(a)\,\sigma(w \cdot x + b)$.

    Queries are made of the layer's normalised input and of what the memory of the branch before said: $\tilde q = f(x + R\,m_{\mathrm{prev}})$; keys, values
    and gates of $x$ alone. With $a = 0$ the model begins as it was, to the last bit. Source: Titans section 4.2 (memory as a gate, MAG); the lerp with a
    scalar gate, which can be shut exactly, and the refined query are ours.

    Symbols: $a$ ``strength``, $R$ ``refine`` (its rank), $M$ ``memory``.

    Args:
        layers: Decoder layers with a memory, counted from 0, from the end if negative; or ``"all"``.
        memory: The memory, as ``retain.layers.described.memory_from`` reads it; ``PLAIN`` unless given.
        values: What the memory is asked to hold: ``"hidden"``, the layer's input; or ``"embedding"``, the embedding of the token, at one length for all
            tokens. The latter is not plain MAG: it hands the branch the first layer's input, too.
        features: What queries, keys and gates are made of: ``"plain"``, the layer's input; or ``"centred"``, that less its mean, in units of its spread, and
            zero for attention sinks, as the first token is one; see ``calibrate``.
        refine: Rank of $R$; 0 for none.
        strength: Where $a$ starts.
        writes: Which tokens are written.

    Raises:
        ValueError: A choice is unknown, or a number is out of range.

    Examples:
        >>> MemoryConfig(layers=(-4,), memory={"preset": "delta_net", "heads": 9}).strength
        0.0
    """

    layers: tuple[int, ...] | Literal["all"] = "all"
    memory: Mapping[str, Any] = field(default_factory=lambda: dict(PLAIN))
    values: Literal["hidden", "embedding"] = "hidden"
    features: Literal["plain", "centred"] = "plain"
    refine: int = 8
    strength: float = 0.0
    writes: AbstractWrites = field(default_factory=AllTokens)

    def __post_init__(self) -> None:
        if self.values not in ("hidden", "embedding") or self.features not in ("plain", "centred"):
            raise ValueError(
                f"MemoryConfig knows values 'hidden' and 'embedding' and features 'plain' and 'centred', got {self.values!r} and {self.features!r}."
            )
        if self.layers != "all" and (not self.layers or not all(isinstance(i, int) for i in self.layers)):
            raise ValueError(f"MemoryConfig.layers is 'all' or at least one number of a layer, got {self.layers!r}.")
        if self.refine < 0:
            raise ValueError(f"MemoryConfig.refine is a rank, 0 for none; got {self.refine}.")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data that JSON can hold.

        Raises:
            ValueError: The memory is not described by plain data, or the writes are none of this package's.
        """
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {**plain, "layers": self.layers if self.layers == "all" else list(self.layers), "writes": writes_to(self.writes)}
        try:
            return json.loads(json.dumps(plain))
        except TypeError as error:
            raise ValueError(
                f"MemoryConfig.memory cannot be written down: {error}. Cure: numbers, words, lists and mappings, see memory_from."
            ) from None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> MemoryConfig:
        """The inverse of ``to_dict``.

        Raises:
            ValueError: Something is unknown or missing.

        Examples:
            >>> config = MemoryConfig(layers=(0, 2), memory={"heads": 2}, strength=0.5)
            >>> MemoryConfig.from_dict(config.to_dict()) == config
            True
        """
        known = {each.name for each in fields(cls)}
        if given.keys() != known:
            unknown, missing = sorted(given.keys() - known), sorted(known - given.keys())
            raise ValueError(f"a MemoryConfig has {', '.join(sorted(known))}; got in addition {unknown} and missed {missing}.")
        layers = given["layers"] if given["layers"] == "all" else tuple(given["layers"])
        return cls(**{**given, "layers": layers, "writes": writes_from(given["writes"])})

    def places(self, count: int) -> tuple[int, ...]:
        """The layers with a memory, in order, of a model that has ``count``.

        Raises:
            ValueError: The model has no such layer, or one is named twice.
        """
        if self.layers == "all":
            return tuple(range(count))
        found = sorted(i + count if i < 0 else i for i in self.layers)
        if found[0] < 0 or found[-1] >= count or len({*found}) < len(found):
            raise ValueError(f"MemoryConfig.layers names each layer once, from {-count} to {count - 1}; got {self.layers}.")
        return tuple(found)
