"""The documentation is held to its word: every Python block in it runs, from top to bottom of its page."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = {page.relative_to(DOCS).as_posix(): BLOCK.findall(page.read_text(encoding="utf-8")) for page in sorted(DOCS.rglob("*.md"))}


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_code_on_the_page_runs(page: str) -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(PAGES[page], start=1):
        exec(compile(block, f"docs/{page}, block {number}", "exec"), names)


def test_the_first_page_shows_code() -> None:
    assert PAGES["index.md"]
