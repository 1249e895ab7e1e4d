"""What a memory on disk survives: death in the middle of a write, two writers, damage, and a disk that is full."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retain.text import DamagedMemory, MemoryBusy, StorageFailed, TextMemory
from tests.unit.text.memories import EMBEDDER, FACTS, opened, taught

WRITER = """
import sys
from pathlib import Path
from tests.unit.text.memories import opened
folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
memory = opened(folder, timeout=60.0)
print("ready", flush=True)
for i in range(count):
    memory.observe(f"{name} says {i}")
    print(i, flush=True)
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([root, f"{root}/src"]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(count)], stdout=subprocess.PIPE, text=True, env=where)


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    last, until = -1, None
    with writer(tmp_path / "notes", "victim", 100_000) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                until = time.monotonic() + 1.0
                continue
            last = int(line)
            if until is not None and time.monotonic() > until and last > 70:  # a generation of weights has been written
                process.send_signal(signal.SIGKILL)
                break
        last = max([last, *(int(line) for line in process.stdout if line.strip().isdigit())])
    assert process.returncode == -signal.SIGKILL
    with opened(tmp_path / "notes") as memory:
        texts = [entry["text"] for entry in memory.history()]
        assert texts[: last + 1] == [f"victim says {i}" for i in range(last + 1)]
        assert len(texts) <= last + 2
        named = memory.get_weight_hash()
    with taught(tmp_path / "undisturbed", texts) as memory:
        assert memory.get_weight_hash() == named


def test_two_processes_write_at_once_and_both_learn_everything(tmp_path: Path) -> None:
    both = [writer(tmp_path / "notes", name, 40) for name in ("ann", "bob")]
    assert [process.communicate(timeout=300)[0].split()[-1] for process in both] == ["39", "39"]
    assert [process.returncode for process in both] == [0, 0]
    with opened(tmp_path / "notes") as memory:
        texts = [entry["text"] for entry in memory.history()]
        for name in ("ann", "bob"):
            assert [text for text in texts if text.startswith(name)] == [f"{name} says {i}" for i in range(40)]
        named = memory.get_weight_hash()
    with taught(tmp_path / "one", texts) as memory:
        assert memory.get_weight_hash() == named


def test_what_another_has_changed_is_seen(tmp_path: Path) -> None:
    with opened(tmp_path / "notes") as one, opened(tmp_path / "notes") as other:
        for i, fact in enumerate(FACTS):
            (one, other)[i % 2].observe(fact)
        assert one.get_weight_hash() == other.get_weight_hash()
        one.forget(1)
        assert other.get_weight_hash() == one.get_weight_hash()
        other.reset()
        assert one.history() == []
        one.observe("again")
        assert one.get_weight_hash() == other.get_weight_hash()


def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS[:2]) as memory, opened(tmp_path / "notes", timeout=0.05) as other:
        before = memory.get_weight_hash()
        with memory._opened.records.writing(), pytest.raises(MemoryBusy, match="another process"):
            other.observe("too soon")
        other.observe("now")
        assert memory.history()[-1]["text"] == "now"
        assert memory.get_weight_hash() == other.get_weight_hash() != before


def damaged(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["weights", "text", "cut", "header", "missing"])
def test_a_damaged_file_is_refused_by_name_and_the_last_good_snapshot_offered(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "notes"
    with taught(folder, FACTS[:5]) as memory:
        memory.snapshot("old")
        memory.observe(FACTS[5])
        memory.snapshot("good")
        named = memory.get_weight_hash()
        memory.snapshot("bad")
    (weights,) = folder.glob("weights-*")
    records = folder / "records.sqlite"
    damaged(next((folder / "snapshots" / "bad").glob("weights-*")), -9)
    if part == "weights":
        damaged(weights, -9)
    elif part == "text":
        damaged(records, records.read_bytes().index(FACTS[2].encode()) + 3)
    elif part == "cut":
        records.write_bytes(records.read_bytes()[:5000])
    elif part == "header":
        damaged(records, 3)
    else:
        weights.unlink()
    guilty = weights if part in ("weights", "missing") else records
    with pytest.raises(DamagedMemory, match=guilty.name) as raised:
        opened(folder)
    assert raised.value.snapshot == "good"
    assert "recover(path, 'good')" in str(raised.value)
    TextMemory.recover(folder, "good")
    with opened(folder) as memory:
        assert memory.get_weight_hash() == named
        memory.observe("and on")
    assert list(folder.glob("*.damaged"))


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS[:3]) as memory:
        before = memory.get_weight_hash()
        database = memory._opened.records._db
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFailed, match="full"):
            memory.observe("x" * 50_000)
        assert memory.get_weight_hash() == before
        assert [entry["text"] for entry in memory.history()] == FACTS[:3]
        database.execute("PRAGMA max_page_count = 1000000")
        memory.observe("room again")
    with opened(tmp_path / "notes") as memory:
        assert memory.history()[-1]["text"] == "room again"


def test_weights_that_cannot_be_written_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with taught(tmp_path / "notes", FACTS[:3]) as memory:
        before = memory.get_weight_hash()
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            with pytest.raises(StorageFailed, match="No space left"):
                memory.flush()
        assert memory.get_weight_hash() == before
        assert not list((tmp_path / "notes").glob(".weights*"))
    with opened(tmp_path / "notes") as memory:
        assert memory.get_weight_hash() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "notes"):
        with pytest.raises(StorageFailed, match="file"):
            opened(path)


def test_something_else_is_not_taken_for_a_memory(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_text("these are not the records you are looking for" * 100)
    with pytest.raises(DamagedMemory, match=r"records\.sqlite") as raised:
        TextMemory.open(tmp_path, embedder=EMBEDDER)
    assert raised.value.snapshot is None
