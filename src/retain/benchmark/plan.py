"""How much is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .settings import SETTINGS

PARTS = ("settings", "decoding", "flops", "streaming", "long", "growth", "memories", "delta", "optimizers", "hope", "retrofit", "text")
FEWEST_REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how often.

    Args:
        settings: Letters of the settings to compare.
        parts: Which measurements.
        repeats: Rounds that count.
        quick: Shorter streams and fewer lengths: to see that all works, not to be quoted.

    Raises:
        ValueError: A name is unknown, or there are too few repeats for a median with its spread.

    Examples:
        >>> Plan(parts=("decoding",)).complete
        False
    """

    settings: Sequence[str] = tuple(SETTINGS)
    parts: Sequence[str] = PARTS
    repeats: int = FEWEST_REPEATS
    quick: bool = False

    def __post_init__(self) -> None:
        for what, names, known in (("setting", self.settings, tuple(SETTINGS)), ("part", self.parts, PARTS)):
            unknown = [name for name in names if name not in known]
            if unknown or not names:
                got = ", ".join(map(repr, unknown)) or "none"
                raise ValueError(f"the benchmark has the {what}s {', '.join(known)}, got {got}. Name some of these, separated by commas.")
        if self.repeats < (1 if self.quick else FEWEST_REPEATS):
            raise ValueError(f"a median with its spread needs at least {FEWEST_REPEATS} repeats, got {self.repeats}; fewer go with --quick only.")

    @property
    def complete(self) -> bool:
        """Whether this measures everything, as results that are quoted must."""
        return not self.quick and set(self.parts) == set(PARTS) and set(self.settings) == set(SETTINGS)

    @property
    def warm_ups(self) -> int:
        return 1
