"""Which texts are the same work: editions, collections and excerpts show in what they share."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping

SHINGLE = 6  # words
KEPT = 8  # one shingle in so many is looked at
SHARED = 0.2

START = re.compile(r"^\*\*\*\s*START OF TH(?:E|IS) PROJECT GUTENBERG[^*]*\*\*\*[ \t]*$|^\*END\*?\s*THE SMALL PRINT.*$", re.MULTILINE)
END = re.compile(r"^\*\*\*\s*END OF TH(?:E|IS) PROJECT GUTENBERG|^End of (?:the |this )?Project Gutenberg", re.MULTILINE)
TITLE = re.compile(r"^Title:[ \t]*(.+)$", re.MULTILINE)
HEADER = 30_000  # characters in which a header is looked for


def strip_gutenberg(text: str) -> str:
    r"""The text without the header and the footer of Project Gutenberg, in their present and their older form; any other text as it is.

    Examples:
        >>> head, foot = "Title: Comus\n*** START OF THE PROJECT GUTENBERG EBOOK COMUS ***\n", "\n*** END OF THE PROJECT GUTENBERG EBOOK COMUS ***"
        >>> strip_gutenberg(f"{head}The star that bids the shepherd fold{foot}")
        'The star that bids the shepherd fold'
    """
    starts = list(START.finditer(text, 0, HEADER))
    if not starts and not END.search(text):
        return text
    begin = starts[-1].end() if starts else 0
    end = END.search(text, begin)
    return text[begin : end.start() if end else len(text)].strip()


def title(text: str, otherwise: str) -> str:
    r"""The title in the header of a Project Gutenberg text, else ``otherwise``; in lower case, words only, without its article.

    Examples:
        >>> title("Title: The Tempest\n\nAuthor: ...", "4ws41"), title("Our revels now", "the_tempest")
        ('tempest', 'tempest')
    """
    found = TITLE.search(text, 0, HEADER)
    words = re.findall(r"[^\W_]+", (found[1] if found else otherwise).lower())
    return " ".join(words[1:] if len(words) > 1 and words[0] in {"the", "a", "an"} else words)


def without_editions(works: Mapping[str, str]) -> dict[str, str]:
    """The works of which no other holds much: of editions and excerpts the longest stays, and a collection of works that are there goes.

    Two texts are compared by runs of six words, of which one in eight is looked at; a fifth shared is much. Of a word only the consonants count, so
    that an old spelling (``haue``, ``loue``) is no other word. The order of what stays is that of ``works``. Source: shingles after Broder 1997; the
    numbers are ours: editions of one play shared more than half, different plays less than a hundredth.

    Examples:
        >>> psalm = " ".join(f"verse {n} of the psalm says {n * n} things" for n in range(200))
        >>> list(without_editions({"psalms": psalm, "excerpt": psalm[:3000], "tale": "once upon a time there was a king " * 9}))
        ['psalms', 'tale']
    """
    shingles = {name: _shingles(text) for name, text in works.items()}
    place = {name: number for number, name in enumerate(works)}
    kept: set[str] = set()
    owner: dict[int, str] = {}
    # From the shortest on; of two as long as each other the first is looked at last, so that it stays.
    for name in sorted(works, key=lambda name: (len(works[name]), -place[name])):
        shared = Counter(owner[shingle] for shingle in shingles[name] if shingle in owner)
        inside = {other for other in kept if shared[other] > SHARED * len(shingles[other])}
        if shared.total() > SHARED * len(shingles[name]) and len(inside) != 1:
            continue
        kept = kept - inside | {name}
        owner |= dict.fromkeys(shingles[name], name)
    return {name: text for name, text in works.items() if name in kept}


def _shingles(text: str) -> set[int]:
    """One in ``KEPT`` of the hashes of the runs of words, the same ones in every text; of a text too short for one, that of the whole."""
    words = [word for word in (re.sub(r"[aeiouyvwj]|(.)(?=\1)", "", word) for word in re.findall(r"[^\W_]+", text.lower())) if word]
    runs = (zlib.crc32(" ".join(words[i : i + SHINGLE]).encode()) for i in range(len(words) - SHINGLE + 1))
    return {run for run in runs if run % KEPT == 0} or {zlib.crc32(" ".join(words).encode())}
