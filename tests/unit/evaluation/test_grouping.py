"""Samples in groups by a fact."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from retain.evaluation.grouping import grouped


def test_few_values_are_a_group_each() -> None:
    groups = grouped([1024, 64, 1024, 16384])
    assert [(group.label, group.middle, group.members) for group in groups] == [
        ("64", 64.0, (1,)),
        ("1,024", 1024.0, (0, 2)),
        ("16,384", 16384.0, (3,)),
    ]


def test_many_values_over_a_wide_range_go_by_powers_of_two() -> None:
    values = [*range(9, 20), 1000]
    groups = grouped(values)
    assert [group.label for group in groups] == ["8 to 16", "16 to 32", "512 to 1,024"]
    assert sorted(place for group in groups for place in group.members) == list(range(12))
    assert groups[0].middle == 12


def test_many_values_over_a_narrow_range_go_in_ten_equal_stretches() -> None:
    groups = grouped([i / 100 for i in range(101)])
    assert len(groups) == 10
    assert [len(group.members) for group in groups] == [10] * 9 + [11]
    assert (groups[0].label, groups[-1].label) == ("0 to 0.1", "0.9 to 1")


def test_given_edges_hold_and_the_last_is_inside() -> None:
    assert [(group.label, group.members) for group in grouped([0, 5, 10, 3], edges=[0, 5, 10])] == [("0 to 5", (0, 3)), ("5 to 10", (1, 2))]


def test_words_are_groups_without_a_place() -> None:
    assert [(group.label, group.middle) for group in grouped(["b", "a", "b"])] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("values", "edges", "message"),
    [
        ([1, 2], [2, 1], "edges must rise"),
        ([1, 2], [1], "two at least"),
        ([1, 20], [1, 2], "all values must lie between"),
        (["a"], [1, 2], "for facts that are numbers"),
        (["a", 1], None, "for facts that are numbers"),
    ],
)
def test_groups_that_make_no_sense_are_refused(values: list[int | str], edges: Sequence[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grouped(values, edges)
