"""The site is whole: every public name has its place in the reference, links have the form of links, and the first page stays short.

``mkdocs build --strict``, which ``make test`` runs first, checks what only a build can: links within the site, names of the reference, formulas.
"""

import doctest
import importlib
import importlib.util
import re
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

import retain
from tests.house.test_door import offered

ROOT = Path(__file__).parents[2]
INNER = {"benchmark", "cli", "core", "demo", "memory", "numerics"}
"""Packages that are no doors: commands, contracts, mathematics, and the room behind ``retain.bias`` and its kin."""
MOST_LINES, MOST_FIGURES = 150, 3
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BARE = re.compile(r"(?<![\w\"'(`])https?://[^\s`\"')>]+")


def hook(name: str) -> ModuleType:
    """A hook of the site's build, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_hooks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = hook("reference")


def module_of(name: str) -> ModuleType:
    """A public module, by the name that users type: ``retain.bias`` is one although it lies elsewhere."""
    inner = name.removeprefix("retain.")
    return getattr(retain, inner) if inner in {"presets", "structure", "bias", "retention", "learner"} else importlib.import_module(name)


def test_every_public_package_has_a_page() -> None:
    rooms = {path.stem for path in (ROOT / "src" / "retain").iterdir() if not path.name.startswith("_") and path.suffix in {"", ".py"}}
    assert rooms - INNER <= {name.split(".")[1] for name in REFERENCE.MODULES if "." in name}
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in REFERENCE.MODULES if f"reference/{name}.md" not in nav] == []


@pytest.mark.parametrize("name", REFERENCE.MODULES)
def test_every_public_name_is_on_its_page(name: str) -> None:
    page = REFERENCE.written(name, ROOT / "src")
    listed = {line.rsplit(".", 1)[1] for line in page.splitlines() if line.startswith("::: ")}
    listed |= {inner.rsplit(".", 1)[1] for inner in REFERENCE.MODULES if f"]({inner}.md)" in page}
    assert listed == set(offered(module_of(name)))


def undocumented(thing: object) -> str | None:
    """What the reference lacks of a name: None if it has a docstring and, as a class or a function, an example that runs; errors need none."""
    doc = thing.__doc__ or ""
    if not (isclass(thing) or isfunction(thing)):
        return None  # a value, whose type has the docstring
    if not doc.strip():
        return "has no docstring"
    if isclass(thing) and issubclass(thing, BaseException):
        return None
    examples = doctest.DocTestParser().get_examples(doc)
    return None if examples and not any(example.options.get(doctest.SKIP) for example in examples) else "has no example that runs"


@pytest.mark.parametrize("name", REFERENCE.MODULES)
def test_every_public_name_says_what_it_is(name: str) -> None:
    module = module_of(name)
    assert (module.__doc__ or "").strip()
    lacking = [f"{name}.{each} {said}" for each in offered(module) if (said := undocumented(getattr(module, each)))]
    assert not lacking, "\n".join(lacking)


def test_a_name_that_says_nothing_is_seen() -> None:
    def bare() -> None: ...
    def told() -> None:
        """A sentence."""

    def skipped() -> None:
        """A sentence.

        >>> 1  # doctest: +SKIP
        """

    assert [undocumented(each) for each in (bare, told, skipped)] == ["has no docstring", *["has no example that runs"] * 2]


def test_the_hook_sees_what_python_sees(tmp_path: Path) -> None:
    source = tmp_path / "part.py"
    source.write_text("from .x import A as A, B\nfrom .y import C as D\nclass E: ...\ndef f(): ...\ndef _g(): ...\n")
    assert REFERENCE.exports(source) == ["A", "E", "f"]
    source.write_text("from .x import A as A\n__all__ = ['B']\n")
    assert REFERENCE.exports(source) == ["B"]


def test_the_first_page_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert text.count("![") <= MOST_FIGURES


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]


def broken(page: Path, text: str) -> list[str]:
    """Links that lead nowhere in the repository, and addresses that are none; no network is asked."""
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)
    links = {*LINK.findall(prose), *BARE.findall(prose)}
    return sorted(link for link in links if not _leads(page, link))


def _leads(page: Path, link: str) -> bool:
    address = urlsplit(link)
    if address.scheme:
        return address.scheme in {"http", "https"} and "." in (address.hostname or "") and not re.search(r"[<>{}|\\^\s]", link)
    if link.startswith("#") or link.startswith("reference/"):  # which mkdocs makes, and checks
        return True
    return (page.parent / address.path).exists()


def test_links_lead_somewhere() -> None:
    wrong = [f"{page.relative_to(ROOT)}: {link}" for page in pages() for link in broken(page, page.read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("link", ["nowhere.md", "http://localhost space.org/", "htp://arxiv.org/abs/1", "https://arxiv/abs/1", "docs/none.png"])
def test_a_link_that_leads_nowhere_is_seen(link: str) -> None:
    assert broken(ROOT / "README.md", f"See [this]({link.replace(' ', '|')}).")


def test_formulas_become_mathml_or_stop_the_build() -> None:
    formulas = hook("formulas")
    made = formulas.mathml(r"W_t = \arg\min_W \bigl\langle W, \nabla \bigr\rangle", "inline")
    assert "argmin" in made
    assert "⟨" in made or "&#x027E8;" in made
    with pytest.raises(ValueError, match="does not know"):
        formulas.mathml(r"\unheardof x", "inline")
