"""Pages by name: what is asked of a memory, in words, works and formats that are held out, or in those to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

from ..book import Book
from ..codec import Codec
from ..corpus import Corpus
from ..hash_hop import Wording
from ..needle import Needle
from ..words import Vocabulary
from .code_pages import CodePages
from .continued import Continued
from .followed import Followed
from .hash_hop_pages import HashHopPages
from .needle_pages import NeedlePages
from .page import AbstractPages
from .pairs import HELD_OUT_FORMATS, TRAINED_FORMATS, Format, Pairs
from .tracing_pages import TracingPages

PART = 512
"""Tokens of a part, of pages that are read in several."""
LONG_PART = 2 << 10
"""Tokens of a part of the English behind pairs."""
LENGTHS = {"2k": 2 << 10, "16k": 16 << 10, "100k": 100 << 10}

Builder = Callable[[Codec, bool], AbstractPages]


def exam(name: str, codec: Codec, *, held_out: bool = True) -> AbstractPages:
    """The pages of a name.

    ``words-31`` and ``words-127`` (that many pairs in one format), ``pairs-31`` and ``pairs-127`` (in the formats to train on), ``formats`` (31 pairs in
    other formats), ``followed-2k`` and ``words-followed-2k`` (8 pairs, then so much English in parts of 2,048 tokens), ``hash-hop-2`` (4 letters;
    ``-16``: 16 letters; ``-thought``: the hashes on the way are asked too; ``hash-hop-bare-2``: so, and a hash is written in one way wherever it stands), ``tracing-2``, ``code``,
    ``needle-2k``, ``text`` and ``text-code`` (how English and code go on after 2,048 tokens). A number behind a hop or a length stands for the others
    that ``EXAMS`` holds. A fifth of the words and a tenth of the works are held out; what is made of random letters alone is told apart by its seeds.

    Args:
        name: One of ``EXAMS``.
        codec: What a token is.
        held_out: Whether words, works and the formats of ``formats`` are those that nothing is trained on.

    Raises:
        ValueError: There are no pages of that name, or they ask for more words than the codec has tokens for.

    Examples:
        >>> from retain.tasks import Bytes
        >>> exam("hash-hop-3-thought", Bytes())
        HashHopPages(hops=3, letters=4, chains=5, asked=4, thought=True, codec=Bytes(), wording='magic')
    """
    if name not in EXAMS:
        raise ValueError(f"there are no pages called {name!r}; there are {', '.join(EXAMS)}.")
    return EXAMS[name](codec, held_out)


@cache
def english(held_out: bool) -> Book:
    """The English of ``Corpus.documentation()`` that is held out, or the rest to train on.

    Examples:
        >>> train, test = english(False), english(True)
        >>> set(train.names) & set(test.names), len(train) > 5 * len(test)
        (set(), True)
    """
    return Corpus.documentation().split()[held_out].book()


def _pairs(facts: int, formats: tuple[Format, ...] = TRAINED_FORMATS) -> Builder:
    def build(codec: Codec, held_out: bool) -> Pairs:
        here = TRAINED_FORMATS if not held_out else formats
        return Pairs(facts=facts, asked=8, formats=here, keys=Vocabulary.of(codec).split()[held_out], codec=codec)

    return build


def _words(facts: int) -> Builder:
    return lambda codec, held_out: Pairs(facts=facts, asked=8, formats=TRAINED_FORMATS[:1], keys=Vocabulary.of(codec).split()[held_out], codec=codec)


def _followed(pairs: Builder, length: int) -> Builder:
    def build(codec: Codec, held_out: bool) -> Followed:
        return Followed(pages=pairs(codec, held_out), haystack=english(held_out), length=length, part=LONG_PART, codec=codec)

    return build


def _hash_hop(hops: int, letters: int, thought: bool, wording: Wording = "magic") -> Builder:
    """About sixteen lines."""

    def build(codec: Codec, held_out: bool) -> HashHopPages:
        return HashHopPages(hops=hops, letters=letters, chains=16 // hops, asked=4, thought=thought, codec=codec, wording=wording)

    return build


def _tracing(hops: int) -> Builder:
    return lambda codec, held_out: TracingPages(hops=hops, length=1024, asked=4, codec=codec)


def _needle(length: int) -> Builder:
    return lambda codec, held_out: NeedlePages(needle=Needle(length=length, haystack=english(held_out), codec=codec), part=PART)


def _code(codec: Codec, held_out: bool) -> CodePages:
    return CodePages(corpus=_modules(held_out), asked=4, codec=codec)


def _text(codec: Codec, held_out: bool) -> Continued:
    return Continued(book=english(held_out), length=4 * PART, part=PART, scored=PART, codec=codec)


def _text_code(codec: Codec, held_out: bool) -> Continued:
    return Continued(book=_packages()[held_out].book(), length=4 * PART, part=PART, scored=PART, codec=codec)


@cache
def _packages() -> tuple[Corpus, Corpus]:
    return Corpus.code().split()


@cache
def _modules(held_out: bool) -> Corpus:
    return Corpus.modules(names=_packages()[held_out].works)


EXAMS: Mapping[str, Builder] = MappingProxyType(
    {
        "words-31": _words(31),
        "words-127": _words(127),
        "pairs-31": _pairs(31),
        "pairs-127": _pairs(127),
        "formats": _pairs(31, HELD_OUT_FORMATS),
        **{f"followed-{name}": _followed(_pairs(8), length) for name, length in LENGTHS.items()},
        **{f"words-followed-{name}": _followed(_words(8), length) for name, length in LENGTHS.items()},
        **{
            f"hash-hop-{hops}{more}{thought}": _hash_hop(hops, letters, bool(thought))
            for letters, more in ((4, ""), (16, "-16"))
            for thought in ("", "-thought")
            for hops in range(1, 5)
            if hops > 1 or not thought
        },
        **{f"hash-hop-bare-{hops}": _hash_hop(hops, 4, hops > 1, "bare") for hops in range(1, 5)},
        **{f"tracing-{hops}": _tracing(hops) for hops in range(1, 5)},
        "code": _code,
        **{f"needle-{name}": _needle(length) for name, length in LENGTHS.items()},
        "text": _text,
        "text-code": _text_code,
    }
)
"""What makes pages of a codec, and of whether they are held out, by name."""
