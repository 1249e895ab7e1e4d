"""Measured numbers on pages come from committed data: what is generated is what the data say, and no other number looks like a result."""

import re
from pathlib import Path

import pytest
from recipes import pages
from recipes.evidence import parted, table

ROOT = Path(__file__).parents[2]
PROSE = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "equations.md")]
GENERATED = re.compile(r"<!-- ([^>]+) -->\n.*?<!-- end of \1 -->", re.DOTALL)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\]\([^)]*\)", re.DOTALL | re.MULTILINE)
RESULT = re.compile(r"\d*\.\d+|\d+ ?%|\d[\d,]* (?:MB|GB|tokens/s|times)\b")
NO_RESULTS = {
    r"sections? \d+(\.\d+)?( and \d+\.\d+)?": "a place in a paper",
    r"arXiv:\d+\.\d+": "a paper",
    r"Python 3\.10": "a requirement",
    r"\(0\.5\.5\)|titans-pytorch 0\.5\.5|Apache-2\.0": "a version",
    r"A cell such as 0\.87 \(0\.86 - 0\.88\)": "how to read a cell",
    r"[Cc]hance is 0\.\d+": "arithmetic",
    r"1\.3 billion parameters": "a paper's model",
    r"93 MB to download|84 MB": "the size of a package",
    r"starts at 0\.9997": "a default",
    r"takes 0\.01 for source code,.*?0\.1 for facts": "settings of recipes",
    r"95 % of answers are exact": "a setting",
    r"0\.5 is as new as most were": "a scale",
    r"Confidence 0\.675.*?Lisbon in May": "what a command prints",
}


@pytest.fixture(scope="module")
def found() -> pages.Found:
    return pages.found()


def stale(made: dict[tuple[Path, str], str]) -> list[str]:
    """The parts of pages that are not what they should be."""
    return [f"{page.relative_to(ROOT)}: {name}" for (page, name), text in made.items() if parted(page, name)[1] != text]


def test_parts_of_pages_are_what_the_data_say(found: pages.Found) -> None:
    assert not stale(pages.parts(found)), "Cure: python -m recipes.pages"


def test_tables_of_recipes_and_guides_are_what_the_data_say(found: pages.Found) -> None:
    made = {where: table(lines[0], lines[1:]) for where, lines in found.tables.items()}
    assert {page.parent.name for page, _ in made} >= {path.parent.name for path in (ROOT / "recipes").glob("*/report.py")}
    assert not stale(made), "Cure: python -m recipes.NAME.report"


def test_a_number_that_moved_is_seen(found: pages.Found) -> None:
    made = pages.parts(found)
    for (page, name), text in made.items():
        digits = re.search(r"\d(?=\D*$)", text)
        assert digits, f"{page.name}, {name} holds no number"
        moved = text[: digits.start()] + str((int(digits.group()) + 1) % 10) + text[digits.end() :]
        assert stale({(page, name): moved}) == [f"{page.relative_to(ROOT)}: {name}"]


def test_a_cell_that_is_not_there_is_refused_by_name(found: pages.Found) -> None:
    with pytest.raises(ValueError, match="recipes/needles"):
        found.cell("needles", "model", ("passkey",), "10M")
    with pytest.raises(ValueError, match="0 rows begin with"):
        found.cell("needles", "model", ("haystack",), "1M")


def test_every_mark_on_a_page_is_written_by_something(found: pages.Found) -> None:
    written = {*pages.parts(found), *found.tables}
    marks = [(page, name) for page in PROSE for name in re.findall(r"<!-- (?!end of)([^>]+) -->", page.read_text(encoding="utf-8"))]
    assert len(marks) > 25
    assert not set(marks) - written


def results_in(text: str) -> list[str]:
    """Numbers in prose that look like results, with what stands around them."""
    prose = CODE.sub("", GENERATED.sub("", text))
    for known in NO_RESULTS:
        prose = re.sub(known, "", prose, flags=re.DOTALL)
    return [prose[max(0, match.start() - 40) : match.end() + 20] for match in RESULT.finditer(prose)]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_no_result_is_written_by_hand(page: Path) -> None:
    assert not results_in(page.read_text(encoding="utf-8")), "Cure: let recipes/pages.py write it, or say in NO_RESULTS what it is"


@pytest.mark.parametrize("planted", ["It recalls 0.93 of them.", "99 % are right", "It runs at 14,700 tokens/s.", "68 times faster", "in 54 MB"])
def test_a_result_written_by_hand_is_seen(planted: str) -> None:
    assert results_in(f"# Page\n\n{planted}\n")
    assert not results_in(f"<!-- it -->\n{planted}\n<!-- end of it -->\n```sh\n{planted}\n```\n")
