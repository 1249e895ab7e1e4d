"""Corpora: what is trained on and what is held out share no work, and every work is there once."""

import random
from pathlib import Path

import pytest

from retain.tasks import Bytes, Corpus, LanguageModelling, library, site_packages
from retain.tasks.editions import strip_gutenberg, title, without_editions
from tests.unit.tasks.asking import BOOK, PAIRS, check_even, parts_of

HEAD = "The Project Gutenberg EBook of Hamlet\n\nTitle: The Tragedy of\nAuthor: W. S.\n\n*** START OF THIS PROJECT GUTENBERG EBOOK\nHAMLET ***\n"
FOOT = "\n*** END OF THIS PROJECT GUTENBERG EBOOK HAMLET ***\n\nSection 1. General Terms of Use"
OLD_HEAD = "**The Project Gutenberg Etext of Comus**\nDonate to them.\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n"
OLD_FOOT = "\nEnd of Project Gutenberg's Etext of Comus by John Milton\nmore"


def tale(seed: int, words: int = 3000) -> str:
    """A text like no other."""
    dice = random.Random(seed)
    letters = "bcdfghklmnprst"
    return " ".join("".join(dice.choice(letters) + dice.choice("aeiou") for _ in range(dice.randint(1, 3))) for _ in range(words))


@pytest.fixture(scope="module")
def documentation() -> Corpus:
    return Corpus.documentation()


@pytest.fixture(scope="module")
def code() -> Corpus:
    return Corpus.code()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def test_code_is_split_by_package(code: Corpus) -> None:
    train, test = code.split(0.2)
    assert not set(train.works) & set(test.works)
    assert set(train.works) | set(test.works) == set(code.works)
    held_out = sum(map(len, test.works.values())) / sum(map(len, code.works.values()))
    assert 0.1 < held_out <= 0.2
    assert {"json", "email", "string"} <= set(code.works)
    assert b"class JSONDecoder" in code.works["json"]
    assert not any(name.endswith("packages") for name in code.works)


def test_named_packages_are_held_out(code: Corpus) -> None:
    train, test = code.split({"email", "http"})
    assert set(test.works) == {"email", "http"}
    assert not {"email", "http"} & set(train.works)
    assert train.book().count("class EmailMessage(") < code.book().count("class EmailMessage(")


def test_the_split_is_drawn_and_drawn_alike_for_the_same_seed(code: Corpus) -> None:
    sides = [set(code.split(0.2, seed)[1].works) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


def test_what_belongs_to_another_package_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a/b.py": "1", "a/_vendor/c.py": "2", "site-packages/d/e.py": "3", "f.py": "4", "a/__pycache__/g.py": "5", "h.txt": "6", "a/a.py": "0"},
    )
    assert Corpus.code(tmp_path).works == {"a": b"0\n1", "f": b"4"}
    assert Corpus.code(tmp_path, names=["f"]).works == {"f": b"4"}
    assert Corpus.modules(tmp_path).works == {"a/a.py": b"0", "a/b.py": b"1", "f.py": b"4"}
    assert Corpus.modules(tmp_path, names=["a"]).works == {"a/a.py": b"0", "a/b.py": b"1"}
    with pytest.raises(ValueError, match=r"no Python source of z under .*; there are a, f"):
        Corpus.code(tmp_path, names=["f", "z"])
    with pytest.raises(ValueError, match="at least one work"):
        Corpus.code(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"no Python source of z under .*; there are a, f"):
        Corpus.modules(tmp_path, names=["z"])


def test_installed_packages_are_code_too() -> None:
    corpus = Corpus.code(site_packages(), names=["jaxtyping", "typing_extensions"])
    assert set(corpus.works) == {"jaxtyping", "typing_extensions"}
    assert b"def jaxtyped(" in corpus.works["jaxtyping"]
    assert library() != site_packages()


def test_there_is_always_english_without_a_download(documentation: Corpus) -> None:
    text = documentation.book()
    assert len(text) > 200_000
    assert text.count(" the ") > 2000
    assert len(documentation.works) > 20
    train, test = documentation.split(0.15, seed=3)
    assert not set(train.works) & set(test.works)
    for work in list(test.works.values())[:10]:
        assert work not in bytes(train.book().text.numpy())


def test_every_licence_is_there_once(documentation: Corpus) -> None:
    """Files that gather the licences of others may quote one often, but each begins with one of its own."""
    begun = [text[:600] for name, text in documentation.works.items() if name.startswith("licence ")]
    assert sum(b"TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text for text in begun) <= 2
    assert sum(b"Permission is hereby granted, free of charge, to any person obtaining a copy" in text for text in begun) <= 3


def test_works_are_split_and_their_headers_are_gone(tmp_path: Path) -> None:
    plays = {f"{n}.txt": f"Title: The Play {n}\n{HEAD}{tale(n)}{FOOT}" for n in range(8)}
    write(tmp_path, {**plays, "sub/play_3.txt": tale(100), "again.txt": f"Title: Other\n{HEAD}{tale(5)}{FOOT}"})
    corpus = Corpus.writings(tmp_path)
    assert len(corpus.works) == 8
    assert sorted(corpus.works.values()) == sorted(tale(n).encode() for n in range(8))
    train, test = corpus.split(0.3)
    assert len(test.works) == 2
    assert not set(train.works.values()) & set(test.works.values())


def test_a_file_in_an_older_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("déjà vu".encode("latin-1"))
    (tmp_path / "new.txt").write_bytes("\ufeffà bientôt".encode())
    assert Corpus.writings(tmp_path).works == {"new": "à bientôt".encode(), "old": "déjà vu".encode()}
    with pytest.raises(ValueError, match=r"no \.txt file"):
        Corpus.writings(tmp_path / "nothing")


@pytest.mark.parametrize(("head", "foot"), [(HEAD, FOOT), (OLD_HEAD, OLD_FOOT), (HEAD, ""), ("", OLD_FOOT), ("", "")])
def test_headers_and_footers_are_taken_off(head: str, foot: str) -> None:
    body = "To be, or not to be *** that\n\nis the question"
    assert strip_gutenberg(head + body + foot) == body


def test_titles_are_read_or_made_of_the_name() -> None:
    assert title(HEAD, "1ws26") == "tragedy of"
    assert title("no header", "Measure_for-Measure") == "measure for measure"
    assert title("no header", "A") == "a"


def test_of_editions_one_stays_and_collections_and_excerpts_go() -> None:
    one, two, three = tale(1), tale(2), tale(3)
    spelt = one.replace("v", "u").replace("ku", "kuu")
    works = {
        "complete": f"{one} {two} {three}",
        "one": one,
        "one, spelt": spelt,
        "two": two,
        "excerpt": two[2000:9000],
        "three": three,
        "same": three,
    }
    assert list(without_editions(works)) == ["one, spelt", "two", "three"]
    assert len(spelt) > len(one)
    assert list(without_editions({name: works[name] for name in reversed(works)})) == ["same", "two", "one, spelt"]


def test_works_that_share_a_few_lines_both_stay() -> None:
    motto = tale(9, words=100)
    works = {name: f"{tale(n)} {motto}" for n, name in enumerate("abc")}
    assert without_editions(works) == works


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (0.0, "between 0 and 1, got 0.0"),
        (1.0, "between 0 and 1, got 1.0"),
        ({"z"}, "z cannot be held out"),
        ({"a", "b"}, "leaves 0 works to train on and 2 held out"),
        (set[str](), "leaves 2 works to train on and 0 held out"),
    ],
)
def test_a_split_with_an_empty_side_is_refused(held_out: float | set[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corpus({"a": b"1", "b": b"2"}).split(held_out)


def test_a_share_that_no_work_fits_takes_the_shortest() -> None:
    assert set(Corpus({"a": b"long", "b": b"1", "c": b"longer"}).split(0.01)[1].works) == {"b"}


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one work"):
        Corpus({"a": b""})


def test_every_token_of_a_window_but_the_first_is_asked() -> None:
    whole = bytes(BOOK.text.numpy()).decode()
    for codec in (Bytes(), PAIRS):
        task = LanguageModelling(book=BOOK, length=300, codec=codec)
        for seed in range(20):
            sample = task.sample(seed)
            assert len(sample.tokens) == 300
            assert sample.asked.tolist() == [False] + [True] * 299
            first, rest = parts_of(sample, codec)
            assert (whole + whole).startswith(first + rest, int(sample.facts["offset"]))


def test_windows_begin_anywhere() -> None:
    task = LanguageModelling(book=BOOK, length=2)
    check_even((10 * int(task.sample(seed).facts["offset"]) // len(BOOK) for seed in range(300)), 10)
    with pytest.raises(ValueError, match="at least 2"):
        LanguageModelling(book=BOOK, length=1)
