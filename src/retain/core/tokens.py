"""What an engine is fed: tokens with their gates, and the gates of single steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .shapes import Keys, Queries, Rates, TokenMask, Values


@dataclass(frozen=True, kw_only=True)
class StepGates:
    """The gates that a step, or a segment, takes from the token that completes it.

    Symbols: ``momentum`` is the papers' $\\eta$ (one number an order), ``retain`` their $1 - \\alpha$ (one number, or one a channel), ``mix`` the
    weights of the raw surprise and of each momentum order, ``scales`` what each weight's update is multiplied by, in the alphabetical order of their
    names, ``channels`` what each channel of every update is multiplied by, ``residual`` how much of another memory's weights is added where gradients are taken, ``transition`` how far the memory goes towards its newest
    weights at a boundary. What a rule does not use is None.
    """

    momentum: Tensor | None = None  # [..., order]
    mix: Tensor | None = None  # [..., order] or [..., order + 1]
    retain: Tensor | None = None  # [...] or [..., channels]
    scales: Tensor | None = None  # [..., weights]
    channels: Tensor | None = None  # [..., channels]
    residual: Tensor | None = None  # [...]
    transition: Tensor | None = None  # [...]

    def of_step(self, pick: Callable[[Tensor], Tensor]) -> Step:
        """The gates of a step, or of several in a row, each what ``pick`` takes from it."""
        gates = {field.name: getattr(self, field.name) for field in fields(StepGates)}
        return Step(**{name: None if gate is None else pick(gate) for name, gate in gates.items()})


@dataclass(frozen=True, kw_only=True)
class Step(StepGates):
    """The gates of one inner step, or of several in a row, and what is known of what they write: its mean rate, and the curvature of its loss."""

    lr: Tensor | None = None  # [...]; given to learners that are not linear
    curvature: Tensor | None = None  # [..., key, key]; given to learners that ask for it


@dataclass(frozen=True, kw_only=True)
class Tokens(StepGates):
    """A stretch of the stream: keys, values, queries and gates.

    Gates are inputs: who computes them is the layer's affair. Of a step of many tokens those of ``StepGates`` are taken at the token that completes it,
    ``transition`` at the token that completes a segment; ``lr`` is each token's own.

    Args:
        k: Keys [batch, time, heads, pairs, key]. ``pairs`` is 1 unless a token writes several associations.
        v: Values [batch, time, heads, pairs, value].
        lr: Inner learning rate (theta) [batch, time, heads, pairs].
        q: Queries [batch, time, heads, key]; None in tokens that wait in a state.
        threshold: What the bias asks of each token beside its value: one number [batch, time, heads, pairs], or one for each channel of the value
            [batch, time, heads, pairs, value].
        share: What each association counts for in the token's step, whatever its rate [batch, time, heads, pairs]; where the bias has a window, those of
            the token itself come first, then those of the one before it [batch, time, heads, window * pairs]. None means one.
        write: Tokens that are stored. The others are read at, and the clock passes them, but no step is taken for them.
        visible: Pairs [batch, time, pairs] that later ones of their step may see, where the structure lets them; None means all. Those that are not
            stored are not seen.
        momentum: Momentum decay [batch, time, heads, order].
        mix: Weights of the momentum orders [batch, time, heads, mixed], the raw surprise first where it takes part.
        retain: Share of the memory that is kept [batch, time, heads] or [batch, time, heads, channels].
        scales: What the updates are multiplied by [batch, time, heads, weights].
        channels: What each channel of the updates is multiplied by [batch, time, heads, channels].
        residual: How much of another memory's weights is added at the gradient point [batch, time, heads].
        transition: How far the memory goes towards its newest weights at a boundary [batch, time, heads].
    """

    k: Keys
    v: Values
    lr: Rates
    q: Queries | None = None
    threshold: Rates | Values | None = None
    share: Float[Tensor, "batch time heads associations"] | None = None
    write: TokenMask | None = None
    visible: Bool[Tensor, "batch time pairs"] | None = None

    def __post_init__(self) -> None:
        lead = self.k.shape[:2]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value.shape[:2] != lead:
                raise ValueError(
                    f"Tokens.{field.name} must begin with [batch, time] = {list(lead)} like k, got shape {list(value.shape)}. "
                    "All tokens of a call come in one rectangle; shorter rows are given by `lengths`."
                )

    @property
    def batch(self) -> int:
        return self.k.shape[0]

    @property
    def time(self) -> int:
        return self.k.shape[1]

    def map(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """The tokens with ``function`` applied to each tensor that is there."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: function(value) for name, value in present.items() if value is not None})

    @staticmethod
    def zip(function: Callable[..., Tensor], parts: Sequence[Tokens]) -> Tokens:
        """One ``Tokens`` out of several, field by field; a field that any of them lacks is left out."""
        out = {}
        for field in fields(Tokens):
            values = [getattr(part, field.name) for part in parts]
            out[field.name] = None if any(value is None for value in values) else function(*values)
        return Tokens(**out)

    @property
    def targets(self) -> Tensor:
        """What is to be held [batch, time, heads, pairs, value], with the ``threshold`` as channels behind it if there is one; see ``MemoryRule.loss``."""
        if self.threshold is None:
            return self.v
        return torch.cat([self.v, self.threshold if self.threshold.ndim == self.v.ndim else self.threshold.unsqueeze(-1)], dim=-1)

    @property
    def written(self) -> Tensor:
        """``write``, spelled out."""
        if self.write is not None:
            return self.write
        return torch.ones(self.batch, self.time, dtype=torch.bool, device=self.k.device)

    @property
    def seen(self) -> Tensor:
        """Which pairs are stored and visible [batch, time, pairs]."""
        stored = self.written.unsqueeze(-1)
        return stored.expand(-1, -1, self.lr.shape[-1]) if self.visible is None else stored & self.visible
