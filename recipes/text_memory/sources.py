"""Two kinds of real text, each with a question that other words were found for by somebody else: verses of two translations, and docstrings."""

from __future__ import annotations

import ast
import random
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from retain.tasks.corpus import Corpus, library, site_packages

SWORD = Path("/usr/share/sword")
"""Where Debian's packages sword-text-web and sword-text-kjv put their texts."""
PACKAGES = ("networkx", "numpy", "pandas", "scipy", "sklearn", "sympy", "torch")
WORDS = range(5, 31)
"""In a text."""


class Pair(NamedTuple):
    """A text that is observed, and what it is asked by."""

    text: str
    question: str


def verses(folder: Path = SWORD) -> list[Pair]:
    """Verses of the World English Bible, each asked by the same verse in the King James Version.

    Verses are matched by their places in chapters that have as many in both.

    Raises:
        FileNotFoundError: The translations are not there.
    """
    new, old = (_chapters(folder / "modules" / "texts" / "ztext" / name) for name in ("engWEB2015eb", "engKJV2006eb"))
    both = [name for name in new if len(new[name]) == len(old.get(name, ()))]
    return distinct(Pair(*pair) for name in both for pair in zip(new[name], old[name], strict=True))


def docstrings(names: Iterable[str] = PACKAGES, standard: bool = True) -> list[Pair]:
    """First paragraphs of the docstrings of the standard library and of some packages, each asked by the words in the names of what it is about: class,
    function and arguments. Tests are left out, and names in double underscores.
    """
    corpora = [Corpus.modules(site_packages(), tuple(names))] if names else []
    if standard:
        corpora.insert(0, Corpus.modules(library()))
    return distinct(pair for corpus in corpora for name, source in corpus.works.items() if "test" not in name for pair in described(source))


def described(source: bytes) -> Iterator[Pair]:
    """What the docstrings of a file say first, and the names that they say it of.

    Examples:
        >>> list(described(b'class TaxForm:\\n  def _addPage(self, page_number):\\n    "Put a sheet in.\\\\n\\\\n Nothing else."'))
        [Pair(text='Put a sheet in.', question='tax form add page page number')]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from _described(tree, [])


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Those with few and plain enough words, each text once, whatever its case and its punctuation."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        if len(pair.text.split()) in WORDS and pair.text[0].isalpha() and pair.question.strip():
            found.setdefault(" ".join(re.findall(r"\w+", pair.text.casefold())), pair)
    return list(found.values())


def edited(text: str, dice: random.Random) -> str:
    """The text with one word left out, or two neighbours exchanged.

    Examples:
        >>> edited("one two three four", random.Random(5)), edited("one two three four", random.Random(1))
        ('one two four', 'two one three four')
    """
    words = text.split()
    at = dice.randrange(len(words) - 1)
    words[at : at + 2] = words[at + 1 : at + 2] if dice.random() < 0.5 else [words[at + 1], words[at]]
    return " ".join(words)


def _described(node: ast.AST, within: list[str]) -> Iterator[Pair]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from _described(child, within)
            continue
        names = [*within, child.name]
        arguments = (
            [] if isinstance(child, ast.ClassDef) else [a.arg for a in (*child.args.args, *child.args.kwonlyargs) if a.arg not in {"self", "cls"}]
        )
        said = ast.get_docstring(child)
        if said and not child.name.startswith("__"):
            yield Pair(" ".join(said.split("\n\n")[0].split()), _spoken([*names[-2:], *arguments]))
        if isinstance(child, ast.ClassDef):
            yield from _described(child, names)


def _spoken(names: list[str]) -> str:
    return " ".join(word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name))


def _chapters(folder: Path) -> dict[str, list[str]]:
    """The verses of a translation in the compressed form of the SWORD project, by chapter."""
    chapters: dict[str, list[str]] = {}
    for testament in ("ot", "nt"):
        blocks, places, data = ((folder / f"{testament}.{end}").read_bytes() for end in ("bzs", "bzv", "bzz"))
        books = [zlib.decompress(data[at : at + size]) if size else b"" for at, size, _ in struct.iter_unpack("<III", blocks)]
        verses: list[str] = []
        for block, at, size in struct.iter_unpack("<IIH", places):
            raw = books[block][at : at + size].decode() if size else ""
            if begins := re.search(r'<chapter [^>]*osisID="([\w.]+)"', raw):
                verses = chapters.setdefault(begins[1], [])
                raw = raw[begins.end() :]
            if plain := _plain(raw):
                verses.append(plain)
    return chapters


def _plain(raw: str) -> str:
    """A verse without notes, titles and marks."""
    raw = re.sub(r"<(note|title)\b[^>]*>.*?</\1>", " ", raw, flags=re.DOTALL)
    return re.sub(r"\s+([.,;:!?’”])", r"\1", " ".join(re.sub(r"<[^>]*>", "", raw.replace("</note>", " ")).split()))
