"""Measurements in processes of their own."""

import os

import pytest

from retain.benchmark.apart import apart
from retain.benchmark.job import JobFailed
from retain.benchmark.timing import Watch


def where(number: int, watch: Watch) -> tuple[int, int]:
    watch(0.5, "half way")
    return os.getpid(), number


def broken(watch: Watch) -> None:
    raise ValueError("no such thing")


def gone(watch: Watch) -> None:
    os._exit(3)


def test_a_measurement_has_a_process_of_its_own_and_says_how_far_it_is() -> None:
    heard: list[tuple[float, str]] = []
    process, number = apart(where, 7, watch=lambda done, note: heard.append((done, note)))
    assert process != os.getpid()
    assert (number, heard) == (7, [(0.5, "half way")])


@pytest.mark.parametrize(("measure", "message"), [(broken, "broken: ValueError: no such thing"), (gone, "ended without a word")])
def test_one_that_breaks_down_says_so(measure: object, message: str) -> None:
    with pytest.raises(JobFailed, match=message):
        apart(measure, watch=lambda done, note: None)  # pyright: ignore[reportArgumentType]
