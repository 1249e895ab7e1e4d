"""The text of the demonstration: what is held out is never trained on."""

import random
from pathlib import Path

import pytest
import torch

from retain.demo import corpus
from retain.demo.corpus import Book
from retain.demo.needle import MARK


@pytest.fixture(scope="module")
def books() -> tuple[Book, Book]:
    return corpus.split(corpus.library())


def test_no_package_is_on_both_sides(books: tuple[Book, Book]) -> None:
    trained, held_out = books
    assert not set(trained.names) & set(held_out.names)
    assert set(held_out.names) <= corpus.HELD_OUT
    assert not set(trained.names) & corpus.HELD_OUT


def test_the_mark_is_nowhere_in_the_library(books: tuple[Book, Book]) -> None:
    assert [book.count(MARK.strip().encode()) for book in books] == [0, 0]


def test_count_finds_what_is_there() -> None:
    assert Book(("a",), torch.tensor(list(b"abcabc"), dtype=torch.uint8)).count(b"bc") == 2


def test_a_window_goes_round_the_end() -> None:
    book = Book(("a",), torch.arange(5, dtype=torch.uint8))
    assert book.window(3, 9).tolist() == [3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert book.window(12, 2).tolist() == [2, 3]


def test_what_was_installed_beside_the_library_is_left_out(tmp_path: Path) -> None:
    for name in ("json/decoder.py", "site-packages/torch/nn.py", "abc.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert set(corpus.packages(tmp_path)) == {"json", "abc"}


def test_the_order_is_drawn_and_drawn_alike_for_the_same_seed(tmp_path: Path) -> None:
    for letter in "abcdefgh":
        (tmp_path / f"{letter}.py").write_text(letter)
    texts = [bytes(corpus.bind(tmp_path, list("abcdefgh"), random.Random(seed)).text.numpy()) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert sorted(texts[0].split()) == [letter.encode() for letter in "abcdefgh"]


def test_a_library_without_source_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "abc.py").write_text("pass")
    with pytest.raises(ValueError, match=r"0 held out.*Cure"):
        corpus.split(tmp_path)


def test_the_package_to_read_is_held_out_and_not_the_tests_if_there_is_another(tmp_path: Path) -> None:
    for name, size in (("test/a.py", 50), ("email/a.py", 20), ("asyncio/a.py", 10), ("json/a.py", 99)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * size)
    assert corpus.longest_package(tmp_path).names == ("email",)
    (tmp_path / "idlelib").mkdir()
    (tmp_path / "idlelib/a.py").write_text("x")
    assert corpus.longest_package(tmp_path).names == ("idlelib",)
