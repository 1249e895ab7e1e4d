"""Code over a cut: the name that is asked is bound in what was read, by nothing else, and cannot be seen in the prompt."""

import builtins
import re
import symtable
from dataclasses import replace
from typing import Any

import pytest

from retain.tasks import Bytes, CodePages, Corpus
from tests.unit.tasks.asking import BOOK, PAIRS
from tests.unit.tasks.pages.reading import text_of

FILES = Corpus.modules(names=["json", "argparse", "dataclasses", "inspect", "ast", "logging", "email"])
SIZES = [
    CodePages(corpus=FILES, length=1200, context=150, asked=3),
    CodePages(corpus=FILES, length=400, context=80, part=150, asked=2, codec=PAIRS),
]


def bound_in(table: symtable.SymbolTable, name: str) -> int:
    """In how many scopes a name is bound, by the compiler's own account."""
    own = (
        name in table.get_identifiers() and (symbol := table.lookup(name)) and (symbol.is_assigned() or symbol.is_parameter() or symbol.is_imported())
    )
    return bool(own) + sum(bound_in(child, name) for child in table.get_children())


@pytest.mark.parametrize("pages", SIZES, ids=["bytes", "pairs"])
def test_the_stretch_binds_what_is_asked_and_the_prompt_hides_it(pages: CodePages) -> None:
    sources = {name: text.decode() for name, text in FILES.works.items() if text.isascii()}
    kinds: set[str] = set()
    for page in pages.batch(range(25)):
        text = text_of(page.text, pages.codec)
        (source,) = {source for source in sources.values() if text in source}
        behind = source[source.index(text) + len(text) :]
        assert len(page.text) == pages.length == page.facts["length"]
        assert 1 <= len(page.questions) <= pages.asked
        for question in page.questions:
            prompt, answer = text_of(question.prompt, pages.codec), text_of(question.answer, pages.codec)
            name, kind = answer.strip(), str(question.facts["kind"])
            assert name.isidentifier()
            assert answer in (name, f" {name}")
            assert 0 < len(question.prompt) <= pages.context
            assert not re.search(rf"\b{name}\b", prompt)
            assert re.search(rf"{re.escape((prompt + answer).lstrip(chr(65533)))}\b", behind)
            assert bound_in(symtable.symtable(source, "", "exec"), name) == 1
            there = text_of(page.text[-int(question.facts["distance"]) :], pages.codec)
            assert there.strip().startswith(name)
            line = (text.removesuffix(there) + there.splitlines()[0]).splitlines()[-1]
            start = {"function": r"(async )?def ", "class": "class ", "assignment": r".*\b", "import": r".*\b"}[kind]
            assert re.match(f"{start}{name}".replace(" ", r"\s+"), line)
            kinds.add(kind)
        assert len({text_of(question.answer, pages.codec).strip() for question in page.questions}) == len(page.questions)
    assert len(kinds) == 4


def test_parts_are_of_their_length_and_begin_with_a_line() -> None:
    for page in SIZES[1].batch(range(10)):
        assert [len(part) for part in page.parts] == [150, 150, 100]
        text = text_of(page.text, PAIRS)
        (source,) = {source for source in FILES.works.values() if text.encode() in source}
        assert source.index(text.encode()) == 0 or source[source.index(text.encode()) - 1 :].startswith(b"\n")


def test_prompts_end_where_the_name_is_used() -> None:
    corpus = Corpus({"a.py": b"import sys as system\nLEAST = 3\n\n\ndef run(system_):\n    return system.path[LEAST:]\n"})
    pages = CodePages(corpus=corpus, length=33, context=11, asked=2)
    seen = {(text_of(q.prompt, Bytes()), text_of(q.answer, Bytes())) for page in pages.batch(range(20)) for q in page.questions}
    assert seen == {("    return ", "system"), ("ystem.path[", "LEAST")}


def test_kinds_take_turns() -> None:
    pages = replace(SIZES[0], length=3000, asked=2)
    kinds = [[str(question.facts["kind"]) for question in page.questions] for page in pages.batch(range(30))]
    names = [int(page.facts["names"]) for page in pages.batch(range(30))]
    assert sum(len(set(pair)) == 2 for pair in kinds) > 15
    assert [len(pair) for pair in kinds] == [min(2, count) for count in names]


def test_the_builtin_names_are_never_asked() -> None:
    for page in SIZES[0].batch(range(25)):
        assert not {text_of(question.answer, Bytes()) for question in page.questions} & set(dir(builtins))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "CodePages.length must be at least 1, got 0"),
        ({"part": 0}, "CodePages.part must be at least 1, got 0"),
        ({"context": 0}, "CodePages.context must be at least 1, got 0"),
        ({"asked": 0}, "CodePages.asked must be at least 1, got 0"),
        ({"length": 10_000_000}, r"no file longer than that .* Cure: a smaller length"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIZES[0], **change)


def test_a_corpus_without_code_is_refused_when_a_page_is_drawn() -> None:
    pages = CodePages(corpus=Corpus({"prose": bytes(BOOK.text[:3000].numpy())}), length=100)
    with pytest.raises(ValueError, match=r"found no stretch of 100 tokens .* Cure: a corpus of more Python source"):
        pages.page(0)
