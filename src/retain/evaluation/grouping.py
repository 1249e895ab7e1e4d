"""Samples put together by a fact: by its values, or by stretches of them."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from retain.tasks.task import Fact

MOST_GROUPS = 10


class Group(NamedTuple):
    """Samples that stand in one row.

    Examples:
        >>> Group("1 to 2", 1.5, (0, 3)).members
        (0, 3)
    """

    label: str
    middle: float | None
    """Where it lies on an axis: the median of its values; None for words."""
    members: tuple[int, ...]
    """Places of its samples."""


def grouped(values: Sequence[Fact], edges: Sequence[float] | None = None) -> list[Group]:
    """The places of ``values`` in groups, the smallest values first.

    Args:
        values: A fact of each sample.
        edges: Where groups of numbers begin and end; the last edge is in the last group. None makes a group of each value if there are ten at most, else
            of powers of two if the largest is eight times the smallest, else of ten equal stretches.

    Raises:
        ValueError: Words are given edges, edges do not rise, or a value lies outside of them.

    Examples:
        >>> [(group.label, group.members) for group in grouped([700, 16, 16], edges=[0, 512, 1024])]
        [('0 to 512', (1, 2)), ('512 to 1,024', (0,))]
        >>> [group.label for group in grouped(["kitchen", "garden"])]
        ['garden', 'kitchen']
    """
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        if edges is not None or numbers:
            raise ValueError(
                f"edges are for facts that are numbers; among the values are words, such as {next(v for v in values if isinstance(v, str))!r}."
            )
        return [_group(str(word), None, [i for i, value in enumerate(values) if value == word]) for word in sorted(map(str, set(values)))]
    if edges is None:
        distinct = sorted(set(numbers))
        if len(distinct) <= MOST_GROUPS:
            return [_group(label(value), float(value), [i for i, other in enumerate(numbers) if other == value]) for value in distinct]
        edges = _edges(distinct[0], distinct[-1])
    _check(edges, numbers)
    bins = [min(bisect_right(edges, value), len(edges) - 1) - 1 for value in numbers]
    groups = []
    for i, (low, high) in enumerate(pairwise(edges)):
        members = [place for place, own in enumerate(bins) if own == i]
        if members:
            groups.append(_group(f"{label(low)} to {label(high)}", statistics.median(numbers[place] for place in members), members))
    return groups


def label(value: float) -> str:
    """A number as it stands in a table.

    Examples:
        >>> label(4096), label(2051.4), label(0.12345)
        ('4,096', '2,051', '0.123')
    """
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def _group(name: str, middle: float | None, members: list[int]) -> Group:
    return Group(name, middle, tuple(members))


def _edges(low: float, high: float) -> list[float]:
    if low > 0 and high >= 8 * low:
        edges: list[float] = [1]
        while edges[0] > low:
            edges.insert(0, edges[0] / 2)
        while edges[-1] <= high:
            edges.append(edges[-1] * 2)
        return [edge for edge, above in pairwise([*edges, edges[-1]]) if above > low or edge == edges[-1]]
    return [low + (high - low) * i / MOST_GROUPS for i in range(MOST_GROUPS)] + [high]


def _check(edges: Sequence[float], numbers: Sequence[float]) -> None:
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"edges must rise, and be two at least, got {list(edges)}.")
    outside = [value for value in numbers if not edges[0] <= value <= edges[-1]]
    if outside:
        raise ValueError(
            f"all values must lie between the first and the last edge, {label(edges[0])} and {label(edges[-1])}; got {label(outside[0])}."
        )
