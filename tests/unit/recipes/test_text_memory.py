"""The text-memory recipe: what is read and asked, and what search over kept embeddings comes to, at a size that takes a moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from recipes.text_memory.exams import above, asked, changed, followed, over_all, ranks
from recipes.text_memory.material import Material, Stream, unit
from recipes.text_memory.memories import LeastSquares, Neural, Search
from recipes.text_memory.sources import Pair, described, distinct, edited
from torch import Tensor

from retain.text import HashingEmbedder, MemoryConfig
from retain.text.learner import Learner

BOUNDS = (0, 10, 50, 60)
WORDS = [f"{a}{b}" for a in ("amber", "boat", "cedar", "drum") for b in ("dale", "fern", "gale", "iris", "moss")]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Sentences of drawn words; each is asked by its words in another order."""
    dice = random.Random(0)
    pairs = []
    for _ in range(80):
        words = dice.sample(WORDS, 6)
        pairs.append(Pair(" ".join(words), " ".join(sorted(words))))
    return Material.of(pairs, HashingEmbedder(width=64), tmp_path_factory.mktemp("embeddings"), most=80, asked=50).stream(1, 20, BOUNDS)


def test_a_source_gives_each_text_once_and_names_without_signs() -> None:
    source = b'class A_b:\n  def getXMLPage2(self, some_file):\n    """Read one page\n    of the file.\n\n    More."""\n  def __len__(self):\n    "One two three four five."'
    assert list(described(source)) == [Pair("Read one page of the file.", "a b get xml page 2 some file")]
    assert list(described(b"def broken(:")) == []
    pairs = [Pair("One two, three four five!", "a"), Pair("one two three FOUR five", "b"), Pair("too few words", "c"), Pair("1 2 3 4 5 6", "d")]
    assert distinct(pairs) == [pairs[0]]


def test_an_edit_leaves_all_words_but_one_or_all_in_another_order() -> None:
    for seed in range(40):
        words, after = WORDS[:7], edited(" ".join(WORDS[:7]), random.Random(seed)).split()
        assert after != words
        assert sorted(after) == sorted(words) or (len(after) == 6 and set(after) < set(words))


def test_embeddings_are_made_once(tmp_path: Path) -> None:
    class Counting(HashingEmbedder):
        calls = 0

        def embed(self, texts: Sequence[str]) -> Tensor:
            Counting.calls += 1
            return super().embed(texts)

    pairs = [Pair(f"{a} {b} {a} {b} word", f"{b} {a}") for a in WORDS[:5] for b in WORDS[5:10]]
    first = Material.of(pairs, Counting(width=32), tmp_path, most=20, asked=10)
    calls = Counting.calls
    again = Material.of(pairs, Counting(width=32), tmp_path, most=20, asked=10)
    assert calls > 0
    assert Counting.calls == calls
    assert again.vectors == first.vectors


def test_no_text_is_both_observed_and_unseen_and_each_stretch_has_questions(stream: Stream) -> None:
    assert len(stream.texts) == 60
    assert len(stream.unseen) == 20
    assert not set(stream.texts) & set(stream.unseen)
    assert [sum(first <= place < end for place in stream.questions) for first, end in pairwise(BOUNDS)] == [10, 16, 10]
    assert set(stream.questions) == set(stream.edits)
    for place, question in stream.questions.items():
        rows = unit([stream.texts[place], question])
        assert float(rows[0] @ rows[1]) == pytest.approx(1, abs=1e-3)  # the same words: spelling is all that this embedder knows


def test_the_area_under_the_curve_is_that_of_counting_pairs() -> None:
    low, high = torch.tensor([0.1, 0.4, 0.4]), torch.tensor([0.4, 0.9])
    pairs = [1.0 if b > a else 0.5 if b == a else 0.0 for a in low.tolist() for b in high.tolist()]
    assert above(low, high) == pytest.approx(sum(pairs) / 6)
    assert ranks(torch.tensor([[3.0, 1.0, 3.0], [0.0, 5.0, 4.0]]), [0, 1]).tolist() == [1, 0]


def test_search_over_all_finds_what_it_has_seen(stream: Stream) -> None:
    row = followed(Search(), stream, [60], 0, lambda _: None)[0]
    assert row["unseen over seen"] == 1.0
    assert row["strangeness"]["seen"] == pytest.approx(0, abs=1e-6)
    assert over_all(row, "right first") > 0.9
    assert row["bytes"] == 60 * 64


def test_a_reservoir_keeps_its_room_and_any_text_as_likely_as_any_other() -> None:
    counts = torch.zeros(20)
    for seed in range(600):
        search = Search(5, seed)
        for i in range(20):
            search.observe(bytes([i + 1, 1, 1]))
        places = [place for place, _ in search.kept]
        assert len(places) == 5
        assert int((search.scores([bytes([1, 1, 1])]) == -2).sum()) == 15
        assert all(row[0] == place + 1 for place, row in search.kept)
        counts[places] += 1
    assert (counts - 150).abs().max() < 5 * 150**0.5


def test_least_squares_are_those_of_a_solver(stream: Stream) -> None:
    memory = LeastSquares(64)
    for text in stream.texts:
        memory.observe(text)
    rows = stream.rows.double()
    padded = torch.cat([rows, torch.eye(64, dtype=torch.float64)])
    matrix = torch.linalg.lstsq(padded, torch.cat([rows, torch.zeros(64, 64, dtype=torch.float64)])).solution
    new = torch.frombuffer(bytearray(stream.unseen[0]), dtype=torch.int8).double()
    new = new / new.norm()
    assert memory.strangeness(stream.unseen[:1]).item() == pytest.approx(float((new - new @ matrix).square().sum()), rel=1e-4)


def test_a_memory_knows_what_it_has_read(stream: Stream) -> None:
    memory = Neural(MemoryConfig(dim=32), 64)
    rows = followed(memory, stream, [10, 60], 0, lambda _: None)
    assert [row["read"] for row in rows] == [10, 60]
    assert rows[0]["bytes"] == rows[1]["bytes"] == memory.bytes
    assert rows[1]["unseen over seen"] > 0.6
    assert over_all(rows[1], "right among five") > 0.5
    assert asked(memory, stream, 60, 0) == rows[1]


def test_a_memory_of_texts_that_differ_learns_what_any_learner_does(stream: Stream) -> None:
    memory, learner = Neural(MemoryConfig(dim=16), 64), Learner(MemoryConfig(dim=16), 64)
    for i, text in enumerate(stream.texts[:20]):
        memory.observe(text)
        learner.observe(i, text, text, 0.01)
    assert memory.learner.hash() == learner.hash()
    question = next(iter(stream.questions.values()))
    torch.testing.assert_close(memory.scores([question])[0], learner.scores(learner.answer(learner.key(question))))


def test_another_topic_is_strange_until_it_is_read(stream: Stream) -> None:
    other = Stream(texts=stream.unseen[:10], unseen=stream.unseen[10:], questions={}, edits={}, bounds=BOUNDS)
    rows = changed(Search(), stream, other, 40, [0, 10])
    assert rows[0]["first, read"] == 0
    assert [row["read of the second"] for row in rows] == [0, 10]
    assert rows[1]["second, unread"] <= rows[0]["second, unread"]
