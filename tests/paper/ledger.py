"""The ledger of equations: what each is, what realises it, and which tests would fail if that were wrong.

``python -m tests.paper.ledger`` writes ``docs/equations.md`` from ``equations/*.json`` and the marks of the tests.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "equations.md"
COUNTS = {"titans": 35, "miras": 32, "nested_learning": 121}
TITLES = {
    "titans": "Titans: Learning to Memorize at Test Time (arXiv:2501.00663v1)",
    "miras": "MIRAS: It's All Connected: A Journey Through Test-Time Memorization, Attentional Bias, Retention, and Online Optimization (arXiv:2504.13173v1)",
    "nested_learning": "Nested Learning: The Illusion of Deep Learning Architecture (arXiv:2512.24695v1)",
    "atlas": "ATLAS: Learning to Optimally Memorize the Context at Test Time (arXiv:2505.23735v1)",
    "tnt": "TNT: Improving Chunkwise Training for Test-Time Memorization (arXiv:2511.07343v1)",
    "ttt": "TTT: Learning to (Learn at Test Time): RNNs with Expressive Hidden States (arXiv:2407.04620)",
}

HEAD = """\
# Every equation, and the tests that hold us to it

Each numbered equation of the Titans and MIRAS papers, and those of others that we realise, the part of the library that realises it, and tests that fail if that part is wrong. For each there is a test that
writes the formula out by hand, in double precision. Where the formula is one of a memory, it does so token by token, and every engine has to agree.

Formulas are in the papers' letters, where vectors are columns and a memory acts from the left. In the library tokens are rows, and a memory acts from the
right. Where a paper prints a slip, the formula is the right one, and a note says what is printed. Other notes say what we do that the paper leaves open or
does otherwise. The gates of the papers go by their roles: `lr` is the inner rate, `momentum` what lingers of past surprise, `retain` what is kept of the memory.

A second set of tests breaks the library on purpose, one fault after the other, and asks that these tests notice: `tests/paper/test_mutations.py`.
`pytest -m equation` runs the tests of this page alone. `python -m tests.paper.ledger` writes the page.
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A numbered equation. ``formula`` is LaTeX, ``code`` the dotted names of what realises it."""

    paper: str
    number: int
    formula: str
    code: list[str]
    slip: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A test that says which equation it is about; the number is a name where the paper gives none."""

    paper: str
    number: int | str
    path: str
    test: str


def entries() -> list[Entry]:
    """Those of each paper, by number."""
    folder = Path(__file__).parent / "equations"
    found = [Entry(**fields) for path in folder.glob("*.json") for fields in json.loads(path.read_text(encoding="utf-8"))]
    return sorted(found, key=lambda entry: (list(TITLES).index(entry.paper), entry.number))


def marks() -> list[Mark]:
    """Those of every test of the repository, in the order of files and lines."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [mark for path in paths for mark in marks_in(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())]


def marks_in(text: str, path: str) -> Iterator[Mark]:
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.equation":
                paper, number = (ast.literal_eval(argument) for argument in call.args)
                yield Mark(paper=paper, number=number, path=path, test=function.name)


def named(dotted: str) -> object:
    """What a dotted name stands for."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(dotted)


def faults(given: Sequence[Entry], found: Sequence[Mark]) -> Iterator[str]:
    """What is missing or wrong, a sentence each."""
    numbers = [(entry.paper, entry.number) for entry in given]
    marked = {(mark.paper, mark.number) for mark in found}
    for paper, count in COUNTS.items():
        for number in range(1, count + 1):
            if numbers.count((paper, number)) != 1:
                yield f"equation {number} of {paper} has {numbers.count((paper, number))} entries; it needs one"
            if (paper, number) not in marked:
                yield f"no test is marked with equation {number} of {paper}"
    for mark in found:
        where = f"{mark.path}::{mark.test}"
        if not mark.test.startswith("test"):
            yield f"{where} is marked and is no test"
        if mark.paper not in TITLES:
            yield f"{where} is about the paper {mark.paper!r}, which is not known"
        if mark.paper in TITLES and isinstance(mark.number, int) and (mark.paper, mark.number) not in numbers:
            yield f"{where} is about equation {mark.number} of {mark.paper}, which has no entry"
    for entry in given:
        where = f"equation {entry.number} of {entry.paper}"
        if "|" in entry.formula + entry.slip + entry.note:
            yield f"{where} has a bar in its text, which ends a cell of the table; write \\lvert, \\lVert or \\Vert"
        if not entry.code:
            yield f"{where} names no code"
        for name in entry.code:
            try:
                named(name)
            except (ImportError, AttributeError) as error:
                yield f"{where} names {name}, which is not there: {error}"


def page(given: Sequence[Entry], found: Sequence[Mark]) -> str:
    """The page, of entries and marks."""
    parts = [HEAD]
    for paper in dict.fromkeys(entry.paper for entry in given):
        rows = [_row(entry, found) for entry in given if entry.paper == paper]
        parts.append(_table(TITLES[paper], ("", "formula", "code", "tests", "notes"), rows))
    unnumbered = sorted({(list(TITLES).index(m.paper), m.paper, str(m.number)) for m in found if isinstance(m.number, str)})
    rows = [(f"{paper}, {number}", _tests(found, paper, number)) for _, paper, number in unnumbered]
    parts.append(_table("Without a number, and from elsewhere", ("", "tests"), rows))
    return "\n".join(parts)


def _row(entry: Entry, found: Sequence[Mark]) -> tuple[str, ...]:
    notes = " ".join(filter(None, (f"**Slip.** {entry.slip}" if entry.slip else "", entry.note)))
    code = "<br>".join(f"`{name}`" for name in entry.code)
    return str(entry.number), f"$`{entry.formula}`$", code, _tests(found, entry.paper, str(entry.number)), notes


def _tests(found: Sequence[Mark], paper: str, number: str) -> str:
    return "<br>".join(f"`{mark.path}::{mark.test}`" for mark in found if (mark.paper, str(mark.number)) == (paper, number))


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join([f"## {title}\n", *(f"| {' | '.join(line)} |" for line in lines), ""])


if __name__ == "__main__":
    PAGE.write_text(page(entries(), marks()), encoding="utf-8")
