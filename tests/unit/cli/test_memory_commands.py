"""`retain memory`: each command beside the library, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from retain.cli.main import app
from retain.text import HashingEmbedder, Scope, TextMemory
from retain.text.records import FILE
from tests.unit.text.memories import CONFIG, FACTS, opened, taught

SMALL = ["--embedder", "hashing", "--dim", "16"]


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is no memory yet, and where all commands look for one."""
    monkeypatch.setenv("RETAIN_MEMORY", str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def told(notes: Path) -> Path:
    """A memory of all facts."""
    taught(notes, FACTS).close()
    return notes


def ran(*words: str, typed: str | bytes | None = None) -> str:
    done = CliRunner().invoke(app, ["memory", *words], input=typed)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    return done.stdout


def asked(*words: str, typed: str | bytes | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran(*words, "--json", typed=typed).splitlines()]


def refused(*words: str, typed: str | bytes | None = None, code: int = 2) -> str:
    done = CliRunner().invoke(app, ["memory", *words], input=typed)
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"retain memory {words[0]}: ")
    return line


# ---- observe


def test_what_is_observed_is_what_the_library_observes(notes: Path, tmp_path: Path) -> None:
    made = asked("observe", *FACTS[:3], *SMALL)
    more = asked("observe", "figs", "--associate", "plums", "--learning-rate", "0.02", "--metadata", '{"from": ["mail"]}')
    with TextMemory.open(tmp_path / "same", CONFIG, embedder=HashingEmbedder()) as same:
        results = [same.observe(fact) for fact in FACTS[:3]]
        results.append(same.observe("figs", "plums", learning_rate=0.02, metadata={"from": ["mail"]}))
        named, history = same.get_weight_hash(), same.history()
    assert [{**one} for one in (*made, *more)] == [{**one, "text": text} for one, text in zip(results, [*FACTS[:3], "figs"], strict=True)]
    assert ran("hash") == f"{named}\n"
    assert asked("hash") == [{"weight_hash": named}]
    again = asked("history")
    assert [{**one, "time": 0} for one in again] == [{**one, "time": 0} for one in history]
    assert again[-1]["metadata"] == {"from": ["mail"]}


def test_texts_come_from_words_files_and_standard_input(notes: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_bytes("\ufefffigs\r\n\r\nplums\n".encode())
    two.write_text("first line\nsecond line\n \n\n\nnext one\n")
    ran("observe", "--files", str(one), str(two), *SMALL)
    ran("observe", "--files", "--each", "paragraph", str(two))
    ran("observe", "-f", "--each", "file", str(one))
    ran("observe", "-", typed="dates\n\npears")
    ran("observe", "--each", "paragraph", typed="a\nb\n\nc")
    ran("observe", "apples", "-")
    assert [entry["text"] for entry in asked("history")] == [
        *["figs", "plums", "first line", "second line", "next one"],
        *["first line\nsecond line", "next one"],
        *["figs\r\n\r\nplums", "dates", "pears", "a\nb", "c", "apples", "-"],
    ]


def test_many_are_told_in_few_lines(notes: Path) -> None:
    done = ran("observe", *SMALL, typed="".join(f"{fact}\n" for fact in FACTS))
    assert done.startswith("12 texts, the last of them record 12. Surprise 0.")
    assert len(done.splitlines()) == 4
    assert ran("observe", FACTS[1]).splitlines()[1] == f"  near  {FACTS[1]}"


def test_files_are_checked_before_anything_is_learnt(notes: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("figs\n" + "x" * 70_000)
    assert f"line 2 of {bad}: text has 70000 bytes" in refused("observe", "--files", str(bad), *SMALL)
    bad.write_bytes(b"figs\npl\xffms\n")
    assert f"line 2 of {bad} is not UTF-8: byte 3 is 0xff" in refused("observe", "--files", str(bad), *SMALL)
    assert f"{tmp_path / 'none'}: No such file" in refused("observe", "--files", str(tmp_path / "none"))
    assert not notes.exists()


def test_a_bad_line_of_a_stream_says_what_was_observed_before_it(notes: Path) -> None:
    line = refused("observe", *SMALL, typed="figs\nplums\nda\0tes\n")
    assert "line 3 of standard input: text holds a NUL character at place 2" in line
    assert line.endswith("2 texts before it were observed.")
    assert [entry["text"] for entry in asked("history")] == ["figs", "plums"]


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        (["observe"], "", "there is no text to observe"),
        (["observe", " "], None, "the text: text is empty"),
        (["observe", "x", "--metadata", "{"], None, "--metadata is not JSON"),
        (["observe", "x", "--metadata", "[1]"], None, "metadata must be a dictionary"),
        (["observe", "x", "y", "--associate", "z"], None, "--associate goes with one text"),
        (["observe", "x", "--dim", "4"], None, "dim must be 8 to 8192, got 4."),
        (["observe", "x", "--learning-rate", "nan"], None, "learning_rate must be a positive finite number"),
        (["observe", "x", "--device", "abacus"], None, "there is no kind of device called 'abacus'"),
        (["observe", "x", "--user", "a" * 300], None, "more than 200 bytes"),
        (["observe", "x", "--timeout", "-1"], None, "timeout counts seconds"),
        (["infer", "x"], None, "there is no memory in"),
        (["stats"], None, "there is no memory in"),
        (["restore", "monday", "--recover"], None, "there is no snapshot 'monday'"),
        (["import", "nowhere.jsonl"], None, "there is no file nowhere.jsonl"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_there_is_a_memory(words: list[str], typed: str | None, message: str, notes: Path) -> None:
    assert message in refused(*words, typed=typed)
    assert not (notes / FILE).exists()


# ---- asking


def test_answers_are_those_of_the_library(told: Path) -> None:
    with opened(told, None) as memory:
        found, new, stats = memory.infer("what does the red a cost?", top=3), memory.surprise("the green b flies"), memory.stats()
        named, response = memory.get_weight_hash(), found["response"].tolist()
    (answer,) = asked("infer", "what does the red a cost?", "--top", "3", "--vector")
    assert answer.pop("response") == pytest.approx(response)
    assert answer == {name: found[name] for name in ("confidence", "attention_weights", "patterns", "ids")}
    assert asked("surprise", typed="the green b flies\n") == [{"surprise": new}]
    assert ran("surprise", "the green b flies") == f"{new:.3f}\n"
    assert asked("stats") == [{**stats, "weight_hash": named}]
    lines = ran("infer", "-", "--top", "2", typed="what does the red a cost?").splitlines()
    assert lines[0] == f"Confidence {found['confidence']:.3f}."
    assert lines[1].endswith(f"  record {found['ids'][0]}  {found['patterns'][0]}")
    assert len(lines) == 3
    assert "typical error: 0." in ran("stats")


def test_history_is_told_in_part(told: Path) -> None:
    assert [entry["id"] for entry in asked("history", "--after", "9")] == [10, 11, 12]
    assert [entry["id"] for entry in asked("history", "--last", "2")] == [11, 12]
    assert "at least 1, got 0" in refused("history", "--last", "0")
    assert re.fullmatch(rf" {{5}}1  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  0\.500  {FACTS[0]}", ran("history").splitlines()[0])


def test_a_text_cannot_take_hold_of_the_terminal(notes: Path) -> None:
    ran("observe", "red \x1b[31m[bold]and[/bold] two\nlines \x9b", *SMALL)
    assert ran("history").endswith("red \\x1b[31m[bold]and[/bold] two\\nlines \\x9b\n")


def test_scopes_are_memories_of_their_own(notes: Path) -> None:
    ran("observe", "figs", "--user", "ann", "--run", "7", *SMALL)
    assert "there is no memory in" in refused("history")
    assert "--user, --agent and --run as they were" in refused("history", "--user", "ann")
    with TextMemory.open(notes, embedder=HashingEmbedder(), scope=Scope(user="ann", run="7")) as memory:
        assert [entry["text"] for entry in memory.history()] == ["figs"]


def test_nothing_but_embedding_needs_the_embedder(tmp_path: Path, notes: Path) -> None:
    class Lengths:
        identity, width = "lengths/1 of my own", 16

        def embed(self, texts: Any) -> Any:
            return torch.tensor([[float(len(text)), *[1.0] * 15] for text in texts])

    with TextMemory.open(notes, CONFIG, embedder=Lengths()) as memory:
        memory.observe("figs")
        memory.observe("plums")
    assert len(asked("history")) == 2
    ran("snapshot", "monday")
    ran("forget", "1")
    ran("export", str(tmp_path / "lines"))
    assert asked("stats")[0]["records"] == 1
    for words in (["infer", "figs"], ["observe", "figs"]):
        assert "made with the embedder 'lengths/1 of my own', which this version of retain does not have" in refused(*words)
    assert "was made with the embedder 'lengths/1 of my own'" in refused("infer", "figs", "--embedder", "hashing")


def test_a_memory_stays_what_it_was_made_with(told: Path) -> None:
    assert "made with dim=16 and not 32" in refused("observe", "figs", "--dim", "32")
    assert "was made with the embedder 'hashing/1 words and letter triples, width 64'" in refused("infer", "figs", "--embedder", "hashing")
    assert asked("observe", "figs", "--learning-rate", "0.5", "--seed", "0")[0]["id"] == 13


# ---- changing


def test_forgetting_is_as_if_it_had_never_been_read(told: Path, tmp_path: Path) -> None:
    ran("snapshot", "monday")
    assert "there is no record 40, 50 to forget. Nothing was changed." in refused("forget", "2", "40", "50")
    done = asked("forget", "2", "12")
    with taught(tmp_path / "same", [fact for number, fact in enumerate(FACTS, 1) if number not in {2, 12}]) as same:
        named = same.get_weight_hash()
    assert [(one["id"], one["snapshots_removed"]) for one in done] == [(2, ["monday"]), (12, [])]
    assert done[-1]["weight_hash"] == named
    assert ran("forget", "3") == "Record 3 is forgotten.\n"


def test_snapshots_are_gone_back_to(told: Path) -> None:
    before = ran("hash")
    assert ran("snapshot", "monday") == "Snapshot monday is kept. To go back to it: retain memory restore monday\n"
    assert "is there already" in refused("snapshot", "monday")
    ran("observe", "figs")
    ran("snapshot", "tuesday")
    assert ran("snapshot") == "monday\ntuesday\n"
    assert asked("snapshot") == [{"snapshots": ["monday", "tuesday"]}]
    assert asked("restore", "monday") == [{"name": "monday", "records": 12, "weight_hash": before.strip()}]
    assert len(asked("history")) == 12
    assert "there is no snapshot 'sunday'" in refused("restore", "sunday")
    assert "There are: monday, tuesday." in refused("restore", "sunday")


def test_a_damaged_memory_says_how_to_recover_it(told: Path) -> None:
    before = ran("hash")
    ran("snapshot", "monday")
    file = told / FILE
    file.write_bytes(file.read_bytes()[:5000])
    for words in (["stats"], ["observe", "figs"], ["restore", "monday"]):
        assert refused(*words, code=1).endswith("On the command line: retain memory restore monday --recover")
    ran("restore", "monday", "--recover")
    assert ran("hash") == before
    assert list(told.glob(f"{FILE}*.damaged"))


def test_lines_go_out_and_come_in(told: Path, tmp_path: Path) -> None:
    named = ran("hash")
    file = tmp_path / "lines.jsonl"
    assert ran("export", str(file)) == f"12 records are in {file}.\n"
    piped = ran("export", "-")
    assert piped == file.read_text()
    like = ["--embedder", "hashing", "--dim", "16"]
    other = ["--memory", str(tmp_path / "other")]
    with opened(tmp_path / "other"):
        pass
    assert asked("import", "-", *other, typed=piped) == [{"records": 12}]
    assert ran("hash", *other) == named
    assert asked("import", str(file), "-m", str(tmp_path / "anew"), *like) == [{"records": 12}]
    assert "line 2 of standard input cannot be taken in" in refused("import", "-", *other, typed='{"text": "figs"}\n{"text": 7}\n')
    assert ran("hash", *other) == named


def test_a_memory_that_is_being_written_to_is_waited_for_by_those_who_write(told: Path) -> None:
    other = sqlite3.connect(told / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "is being written to by another process" in refused("observe", "figs", "--timeout", "0.1", code=1)
    assert asked("stats", "--timeout", "0.1")[0]["records"] == len(FACTS)
    other.execute("ROLLBACK")
    other.close()
    assert asked("observe", "figs")[0]["id"] == 13


def test_asking_writes_nothing(told: Path, tmp_path: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in told.iterdir()}
    for words in (["infer", "figs"], ["surprise", "figs"], ["hash"], ["stats"], ["history"], ["export", str(tmp_path / "out.jsonl")]):
        ran(*words)
    assert {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in told.iterdir() if path.name.rpartition("-")[2] not in {"wal", "shm"}
    } == before
    assert all(not path.read_bytes() for path in told.glob("*-wal"))


def test_a_memory_whose_making_was_cut_short_is_none_yet(notes: Path) -> None:
    notes.mkdir()
    (notes / FILE).touch()
    assert "there is no memory in" in refused("stats")
    with pytest.raises(FileNotFoundError, match="did not finish"):
        TextMemory.open(notes, embedder=HashingEmbedder(), read_only=True)
    assert asked("observe", "figs", *SMALL)[0]["id"] == 1


def test_minilm_is_what_a_new_memory_reads_with(notes: Path) -> None:
    ran("observe", "Anna is allergic to nuts", "The meeting is on Thursday", "The car is in the garage", "--dim", "64")
    (answer,) = asked("infer", "what must she not eat?", "--top", "1")
    assert answer["patterns"] == ["Anna is allergic to nuts"]
    assert asked("stats")[0]["embedder"].startswith("all-MiniLM-L6-v2/1")
    shutil.rmtree(notes)
