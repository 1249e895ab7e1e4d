"""Lines that are held against a text memory: its own answers, and nothing learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retain.inspection import ask, memory_page, told_of_lines
from retain.text import HashingEmbedder, MemoryConfig, TextMemory
from tests.unit.inspection.pages import arrays_in, data_in

TEXTS = ["the sea is salt", "bread is baked", "the wind has turned"]
ASKED = ["the sea is salt", "nothing of the kind"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with TextMemory.open(tmp_path / "notes", MemoryConfig(dim=16), embedder=HashingEmbedder()) as memory:
        for text in TEXTS:
            memory.observe(text)
    return tmp_path / "notes"


def test_the_page_holds_what_the_memory_says(folder: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    with TextMemory.open(folder, embedder=HashingEmbedder(), read_only=True) as memory:
        found = ask(memory, ASKED)
        page = memory_page(found, "a text")
        arrays, data = arrays_in(page), data_in(page)
        np.testing.assert_allclose(arrays["0.surprise"], [memory.surprise(line) for line in ASKED], rtol=1e-6)
        for line, recalled in zip(ASKED, data["recalled"], strict=True):
            answer = memory.infer(line)
            assert [tuple(pair) for pair in recalled] == list(zip(answer["ids"], answer["attention_weights"], strict=True))
            assert [data["records"][str(number)] for number, _ in recalled] == answer["patterns"]
        assert found.hash == memory.get_weight_hash()
        assert f"{memory.surprise(ASKED[1]):.3f} | 2 | nothing of the kind" in told_of_lines(found)
    assert {path: path.read_bytes() for path in before} == before  # SQLite may put an empty log of its own beside them


def test_no_lines_are_refused(folder: Path) -> None:
    with TextMemory.open(folder, embedder=HashingEmbedder(), read_only=True) as memory, pytest.raises(ValueError, match="no lines to ask about"):
        ask(memory, [])
