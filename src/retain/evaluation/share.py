"""How many of how many were right, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054  # a normal variable lies within so many deviations of its mean in 95 % of cases


@dataclass(frozen=True)
class Share:
    r"""``right`` of ``asked``, and the Wilson interval in which the true share lies in 95 % of cases.

    With $\hat p$ = right / asked, $n$ = asked and $z$ = 1.96 its ends are
    $\left(\hat p + \frac{z^2}{2n} \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4n^2}}\right) / \left(1 + \frac{z^2}{n}\right)$.
    It takes what was asked as independent, so for several tokens of one answer it is too narrow. Source: Wilson 1927.

    Args:
        right: How many were right.
        asked: How many there were; 0 where nothing could be asked.

    Raises:
        ValueError: The counts are negative, or more were right than were asked.

    Examples:
        >>> share = Share(8, 10)
        >>> share.value, [round(end, 4) for end in share.interval], str(share)
        (0.8, [0.4902, 0.9433], '0.80 (0.49 - 0.94)')
        >>> str(share + Share(0, 10)), str(Share(0, 0))
        ('0.40 (0.22 - 0.61)', 'does not apply')
    """

    right: int
    asked: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.asked:
            raise ValueError(f"Share needs 0 <= right <= asked, got right={self.right} and asked={self.asked}.")

    @property
    def value(self) -> float:
        """``right / asked``; not a number where nothing was asked."""
        return self.right / self.asked if self.asked else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the Wilson interval; 0 and 1 where nothing was asked."""
        if not self.asked:
            return 0.0, 1.0
        n, p = self.asked, self.value
        middle, spread = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        scale = 1 + Z * Z / n
        low, high = (middle - spread) / scale, (middle + spread) / scale
        return min(max(0.0, low), p), max(min(1.0, high), p)  # which rounding could miss at 0 and at 1

    def __add__(self, other: Share) -> Share:
        return Share(self.right + other.right, self.asked + other.asked)

    def __str__(self) -> str:
        if not self.asked:
            return "does not apply"
        low, high = self.interval
        return f"{self.value:.2f} ({low:.2f} - {high:.2f})"
