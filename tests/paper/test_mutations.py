"""The tests of the equations notice: the library is broken on purpose, one fault at a time, and each test that is named must fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.paper import (
    faults_of_continuum,
    faults_of_hope,
    faults_of_miras,
    faults_of_nested_associations,
    faults_of_optimizers,
    faults_of_self_modifying,
    faults_of_titans,
)
from tests.paper.faults import Fault
from tests.paper.ledger import COUNTS

FAULTS = (
    *faults_of_titans.FAULTS,
    *faults_of_miras.FAULTS,
    *faults_of_continuum.FAULTS,
    *faults_of_hope.FAULTS,
    *faults_of_nested_associations.FAULTS,
    *faults_of_optimizers.FAULTS,
    *faults_of_self_modifying.FAULTS,
)


def _said(fault: Fault) -> str:
    return f"{'-'.join(f'{paper}_{number}' for paper, number in fault.harms)}-{fault.says.replace(' ', '_')}"


def _equations(test: Callable[[], None]) -> set[tuple[str, int]]:
    """Those with which a test, or the test inside a partial call of it, is marked."""
    marks = getattr(getattr(test, "func", test), "pytestmark", [])
    return {mark.args for mark in marks if mark.name == "equation"}


@pytest.mark.parametrize("fault", FAULTS, ids=_said)
def test_a_fault_is_noticed(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(fault.owner, fault.name)
    monkeypatch.setattr(fault.owner, fault.name, fault.wrong(right))
    for test in fault.noticed:
        with pytest.raises(AssertionError):
            test()


@pytest.mark.parametrize("fault", FAULTS, ids=_said)
def test_a_fault_is_noticed_by_tests_of_what_it_harms(fault: Fault) -> None:
    marked = [_equations(test) for test in fault.noticed]
    assert all(equations & set(fault.harms) for equations in marked)
    assert set(fault.harms) <= set().union(*marked)


def test_every_equation_is_harmed_by_a_fault() -> None:
    harmed = {(paper, number) for fault in FAULTS for paper, number in fault.harms if paper in COUNTS}
    assert harmed == {(paper, number) for paper, count in COUNTS.items() for number in range(1, count + 1)}
