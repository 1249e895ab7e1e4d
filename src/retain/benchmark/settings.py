"""What is measured: the settings, as both libraries understand them, and what this library has to reach in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Targets:
    """How many times the peer's speed, forward and in training, and which share of its peak memory in training."""

    forward: float | None = None
    train: float | None = None
    peak: float | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A memory in the words of both libraries; one row of tokens, float32.

    Args:
        name: One letter, or a word.
        time: Tokens of a call.
        heads: Memories side by side.
        head_dim: Width of a head.
        step_every: Tokens that share one inner step; the peer's ``chunk_size``.
        update_every: Tokens between two points where gradients are taken; the peer's ``batch_size``. None stays at the initial weights.
        dim: Width of the stream.
        targets: What is to be reached.

    Examples:
        >>> SETTINGS["A"].at(64).time
        64
    """

    name: str
    time: int
    heads: int
    head_dim: int
    step_every: int
    update_every: int | None
    dim: int = 384
    targets: Targets = field(default_factory=Targets)

    def at(self, time: int) -> Setting:
        """The same memory over another number of tokens; targets do not go with it."""
        return Setting(
            name=self.name,
            time=time,
            heads=self.heads,
            head_dim=self.head_dim,
            step_every=self.step_every,
            update_every=self.update_every,
            dim=self.dim,
        )

    @property
    def sentence(self) -> str:
        """The setting in words."""
        heads = f"{self.heads} head{'s' * (self.heads > 1)} x {self.head_dim}"
        step = "a step per token" if self.step_every == 1 else f"a step per {self.step_every} tokens"
        anchor = "gradients at the initial weights" if self.update_every is None else f"boundary every {self.update_every}"
        return f"dim {self.dim}, {heads}, {step}, {anchor}, T {self.time}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(name="A", time=1024, heads=4, head_dim=64, step_every=1, update_every=64, targets=Targets(forward=120.0, train=80.0, peak=1 / 40)),
        Setting(name="B", time=1024, heads=4, head_dim=64, step_every=4, update_every=128, targets=Targets(forward=12.0, train=8.0, peak=1 / 12)),
        Setting(name="C", time=4096, heads=4, head_dim=64, step_every=64, update_every=None, targets=Targets(forward=2.0, train=1.5, peak=1 / 2)),
        Setting(name="D", time=1024, heads=1, head_dim=384, step_every=64, update_every=None, targets=Targets(forward=4.0, train=4.0, peak=1 / 3)),
    )
}

DECODING = Setting(name="decoding", time=64, heads=1, head_dim=256, step_every=1, update_every=64, dim=256, targets=Targets(forward=8.0))
DECODING_COARSE = Setting(name="decoding, a step per 64 tokens", time=64, heads=1, head_dim=256, step_every=64, update_every=64, dim=256)


def chosen(names: Sequence[str]) -> tuple[Setting, ...]:
    """The settings of these names.

    Args:
        names: Letters, in any order; none means all.

    Raises:
        ValueError: There is no setting of a name.

    Examples:
        >>> [setting.name for setting in chosen(["C", "A"])]
        ['A', 'C']
    """
    unknown = [name for name in names if name not in SETTINGS]
    if unknown:
        raise ValueError(f"there is no setting {', '.join(map(repr, unknown))}; choose from {', '.join(SETTINGS)}.")
    return tuple(setting for name, setting in SETTINGS.items() if name in names or not names)
