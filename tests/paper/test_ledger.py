"""The ledger is complete, what it names is there, and the page says what it says."""

from __future__ import annotations

from dataclasses import replace

from tests.paper.ledger import PAGE, Entry, Mark, entries, faults, marks, marks_in, named, page


def test_every_numbered_equation_has_an_entry_that_holds_and_a_test() -> None:
    assert list(faults(entries(), marks())) == []


def test_the_page_is_what_the_ledger_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(entries(), marks()), "docs/equations.md is old: python -m tests.paper.ledger writes it anew"


def test_a_gap_in_the_ledger_is_seen() -> None:
    given, found = entries(), marks()
    planted: list[tuple[list[Entry], list[Mark], str]] = [
        (given[1:], found, "equation 1 of titans has 0 entries"),
        ([*given, given[0]], found, "equation 1 of titans has 2 entries"),
        (given, [m for m in found if (m.paper, m.number) != ("miras", 32)], "no test is marked with equation 32 of miras"),
        (given, [*found, replace(found[0], paper="miras", number=33)], "equation 33 of miras, which has no entry"),
        (given, [*found, replace(found[0], paper="mirras")], "'mirras', which is not known"),
        (given, [*found, replace(found[0], test="check")], "marked and is no test"),
        ([replace(given[0], code=["retain.learner.Momentun"]), *given[1:]], found, "retain.learner.Momentun, which is not there"),
        ([replace(given[0], code=["retain.lerner.Momentum"]), *given[1:]], found, "retain.lerner.Momentum, which is not there"),
        ([replace(given[0], code=[]), *given[1:]], found, "names no code"),
        ([replace(given[0], formula="|x|"), *given[1:]], found, "ends a cell"),
    ]
    for some, others, sentence in planted:
        assert sentence in "\n".join(faults(some, others))


def test_marks_are_read_where_they_stand() -> None:
    text = '@pytest.mark.equation("titans", 3)\n@pytest.mark.slow\n@pytest.mark.equation("miras", "remark 5")\ndef test_a(): ...\n\n\ndef test_b(): ...\n'
    assert list(marks_in(text, "tests/test_x.py")) == [
        Mark(paper="titans", number=3, path="tests/test_x.py", test="test_a"),
        Mark(paper="miras", number="remark 5", path="tests/test_x.py", test="test_a"),
    ]


def test_a_dotted_name_is_what_it_says() -> None:
    assert named("tests.paper.ledger.page") is page
