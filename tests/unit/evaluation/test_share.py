"""Shares and their Wilson intervals."""

from __future__ import annotations

import pytest

from retain.evaluation import Share


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(right: int, asked: int, low: float, high: float) -> None:
    assert Share(right, asked).interval == pytest.approx((low, high), abs=5e-5)


def test_the_interval_holds_the_share_and_stays_within_bounds() -> None:
    for asked in (1, 7, 1000):
        for right in (0, 1, asked // 2, asked):
            low, high = Share(right, asked).interval
            assert 0 <= low <= right / asked <= high <= 1


def test_shares_add_up_and_none_is_said_to_be_none() -> None:
    assert sum([Share(1, 2), Share(3, 8)], Share(0, 0)) == Share(4, 10)
    assert str(Share(0, 0)) == "does not apply"
    assert Share(0, 0).interval == (0.0, 1.0)


@pytest.mark.parametrize(("right", "asked"), [(3, 2), (-1, 2)])
def test_counts_that_make_no_sense_are_refused(right: int, asked: int) -> None:
    with pytest.raises(ValueError, match="0 <= right <= asked"):
        Share(right, asked)
