"""A model reads a text, and what each of its memories does is written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.evaluation.stream import at_rest
from retain.layers import NeuralMemory
from retain.models import RetainCache, RetainForCausalLM

from .recording import Recording, norm_and_distance, recorded

PIECES = 256
"""Most stretches that a text is read in; behind each the memories' norms are taken."""


@dataclass(frozen=True, kw_only=True)
class LayerReading:
    """What one memory did.

    Args:
        name: Of its block in the model, such as ``layers.2``.
        rule: What the memory is, in words.
        per_token: By name, ``surprise``, ``answer``, ``lr``, ``forgetting`` and the rule's other gates; each [heads, time].
        norms: Of the weights with which it would answer, before the first token and behind each stretch [heads, 1 + stretches].
        distances: Of those weights from the first ones [heads, 1 + stretches].
        places: For each traced read, the tokens it draws on most; for the mean over heads and for each head [reads, 1 + heads, most], -1 where there are fewer.
        weights: How much it draws on them, of the same shape.
        totals: How much it draws on all tokens it was traced to [reads, 1 + heads].

    Examples:
        >>> from retain.models import RetainConfig
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm", memory={"heads": 2}))
        >>> layer = read(model, torch.arange(9)).layers[0]
        >>> layer.heads, layer.per_token["lr"].shape
        (2, torch.Size([2, 9]))
    """

    name: str
    rule: str
    per_token: dict[str, Tensor]
    norms: Tensor
    distances: Tensor
    places: Tensor
    weights: Tensor
    totals: Tensor

    @property
    def heads(self) -> int:
        return self.norms.shape[0]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a model's memories did with a text.

    Args:
        tokens: The text [time].
        bits: What each token cost the model to foretell, in bits [time]; the first is not foretold.
        stretch: Tokens between two of the norms.
        layers: Each memory.
        traced: The places of the reads that were traced, in order.
        since: For each of them, the place it was traced back to.

    Examples:
        >>> from retain.models import RetainConfig
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm"))
        >>> reading = read(model, torch.arange(9))
        >>> reading.bits.shape, bool(reading.bits[0].isnan())
        (torch.Size([9]), True)
    """

    tokens: Tensor
    bits: Tensor
    stretch: int
    layers: tuple[LayerReading, ...]
    traced: tuple[int, ...]
    since: tuple[int, ...]


def read(
    model: RetainForCausalLM,
    tokens: Tensor,
    *,
    traced: Sequence[int] = (),
    span: int = 4096,
    progress: Callable[[float], None] | None = None,
) -> Reading:
    """Have a model read a text in one stream, and write down what its memories do.

    Args:
        model: The model; it is in the end as it was.
        tokens: The text [time].
        traced: Places of tokens of which it is told what their reads draw on; see ``retain.inspection.draws``.
        span: How many tokens at least such a read is traced back; all there are if fewer came before.
        progress: Is told what share is read.

    Raises:
        ValueError: The model has no memory that can be looked at, there are no tokens, or a place is not one of the text.

    Examples:
        >>> from retain.models import RetainConfig
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm"))
        >>> found = read(model, torch.arange(40) % 16, traced=[39])
        >>> found.layers[0].name, found.layers[0].per_token["surprise"].shape, found.since
        ('layers.0', torch.Size([1, 40]), (0,))
    """
    time = len(tokens)
    if tokens.ndim != 1 or not time:
        raise ValueError(f"a text is a row of at least one token, got the shape {list(tokens.shape)}.")
    outside = [place for place in traced if not 0 <= place < time]
    if outside:
        raise ValueError(f"the text has the tokens 0 to {time - 1}, and there is no token {outside[0]} whose read could be traced.")
    if traced and span < 1:
        raise ValueError(f"span counts tokens that a read is traced back and must be at least 1, got {span}. Cure: no reads to trace, for none.")
    stretch = max(32, -(-time // PIECES // 32) * 32)
    bits = torch.full((time,), math.nan)
    with at_rest(model):
        memories = dict(_memories(model))
        if not memories:
            raise ValueError(
                f"the model's blocks ({', '.join(dict.fromkeys(model.config.blocks))}) have no NeuralMemory to look at. Cure: a model with a block "
                "such as 'lmm', 'mac', 'mag' or 'mal'."
            )
        blocks: Any = model.model.layers
        cache: Any = RetainCache(tuple(block.start(1) for block in blocks))
        starts = {number: cache.states[number].memories["memory"] for number in memories}
        first = {number: memory.weights(starts[number]) for number, memory in memories.items()}
        norms = {number: [norm_and_distance(memory, starts[number], first[number])] for number, memory in memories.items()}
        with recorded(
            {number: Recording(memory, starts[number], traced, span if traced else 0) for number, memory in memories.items()}, memories
        ) as seen:
            for begin in range(0, time, stretch):
                part, nexts = tokens[begin : begin + stretch], tokens[begin + 1 : begin + 1 + stretch]
                out: Any = model(part[None], past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                bits[begin + 1 : begin + 1 + len(nexts)] = F.cross_entropy(out.logits[0, : len(nexts)].float(), nexts, reduction="none") / math.log(2)
                for number, memory in memories.items():
                    norms[number].append(norm_and_distance(memory, seen[number].state, first[number]))
                if progress is not None:
                    progress(min(1.0, (begin + stretch) / time))
    layers = tuple(_layer(f"layers.{number}", memories[number], seen[number], norms[number]) for number in memories)
    draws = next(iter(seen.values())).draws
    traced, since = tuple(one.at for one in draws), tuple(one.since for one in draws)
    return Reading(tokens=tokens, bits=bits, stretch=stretch, layers=layers, traced=traced, since=since)


def _memories(model: RetainForCausalLM) -> Iterator[tuple[int, NeuralMemory]]:
    """By the number of their block; those that rewrite themselves are of another kind."""
    blocks: Any = model.model.layers
    for number, block in enumerate(blocks):
        memory = getattr(block.mixer, "memory", None)
        if isinstance(memory, NeuralMemory):
            yield number, memory


def _layer(name: str, memory: NeuralMemory, recording: Recording, norms: list[tuple[Tensor, Tensor]]) -> LayerReading:
    strongest = [draws.strongest() for draws in recording.draws]
    none = torch.zeros(0, 1 + memory.heads, 0)
    places, weights, totals = (
        (torch.stack(part) for part in zip(*strongest, strict=True)) if strongest else (none.int(), none, none[:, :, :1].squeeze(2))
    )
    return LayerReading(
        name=name,
        rule=_told(memory),
        per_token=recording.per_token(),
        norms=torch.stack([norm for norm, _ in norms], dim=1),
        distances=torch.stack([distance for _, distance in norms], dim=1),
        places=places,
        weights=weights,
        totals=totals,
    )


def _told(memory: NeuralMemory) -> str:
    rule = memory.rule
    parts = (rule.structure, rule.bias, rule.retention, rule.learner)
    return " · ".join(type(part).__name__ for part in parts) + f" · update every {rule.update_every or 'never'}, step every {rule.step_every}"
