"""The documentation is held to its word: every Python block in it runs, from top to bottom of its page; what is in another language can be read.

Shell blocks: ``test_shell_blocks.py``. Numbers: ``test_pages.py``. The site as a whole: ``test_site.py``.
"""

import json
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
PAGES = {page: BLOCK.findall(text) for page, text in TEXTS.items()}
LANGUAGES = {"python", "sh", "json", "toml", "text"}


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_code_on_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(PAGES[page], start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


def test_the_first_page_shows_code() -> None:
    assert PAGES["docs/index.md"]


@pytest.mark.parametrize("page", TEXTS)
def test_every_block_says_its_language_and_can_be_read(page: str) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    assert {language for language, _ in blocks} <= LANGUAGES
    for language, block in blocks:
        if language == "json":
            assert isinstance(json.loads(block), dict)
        if language == "toml":
            assert tomllib.loads(block)
