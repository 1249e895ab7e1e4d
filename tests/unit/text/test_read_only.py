"""Memories that are only read, and folders that cannot be written to."""

import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retain.text import ReadOnlyMemory, StorageFailed, TextMemory
from tests.unit.text.memories import EMBEDDER, FACTS, opened, taught


def read(folder: Path) -> TextMemory:
    return TextMemory.open(folder, embedder=EMBEDDER, read_only=True)


@contextmanager
def frozen(folder: Path) -> Generator[None, None, None]:
    """The folder on a file system that cannot be written to; or, where that may not be made, with rights taken away, which bind all but root."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        for path in (folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode & ~0o222)
        yield
        for path in (folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode | 0o200)
        return
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


CHANGES: dict[str, Callable[[TextMemory], object]] = {
    "observe": lambda memory: memory.observe("new"),
    "forget": lambda memory: memory.forget(1),
    "reset": lambda memory: memory.reset(),
    "snapshot": lambda memory: memory.snapshot("s"),
    "rollback": lambda memory: memory.rollback("kept"),
    "merge": lambda memory: memory.merge(memory),
    "import": lambda memory: memory.import_jsonl("nowhere"),
    "flush": lambda memory: memory.flush(),
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}


def test_what_is_read_only_answers_and_refuses_to_change(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS[:3]) as memory:
        memory.snapshot("kept")
        named, told = memory.get_weight_hash(), memory.surprise("new")
    before = files(tmp_path / "notes")
    with read(tmp_path / "notes") as memory:
        for change in CHANGES.values():
            with pytest.raises(ReadOnlyMemory, match=r"read_only=True.*fork"):
                change(memory)
        assert (memory.get_weight_hash(), memory.surprise("new"), memory.stats()["records"]) == (named, told, 3)
        assert FACTS[0] in memory.infer(FACTS[0])["patterns"]
    assert {name: data for name, data in files(tmp_path / "notes").items() if data} == before


def test_a_reader_learns_what_others_write(tmp_path: Path) -> None:
    with opened(tmp_path / "notes") as writer, read(tmp_path / "notes") as reader:
        for i in range(70):  # beyond a generation of weights
            writer.observe(f"text {i}")
        assert reader.get_weight_hash() == writer.get_weight_hash()
        writer.forget(3)
        assert reader.get_weight_hash() == writer.get_weight_hash()
        assert len(reader.history()) == 69


@pytest.mark.parametrize("left", ["closed", "died"])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "notes"
    with taught(folder, FACTS[:5]) as memory:
        named = memory.get_weight_hash()
        if left == "died":  # the last records are in the log's journal alone
            shutil.copytree(folder, tmp_path / "died")
    if left == "died":
        folder = tmp_path / "died"
        assert (folder / "records.sqlite-wal").stat().st_size
        (folder / "records.sqlite-shm").unlink()
    with frozen(folder):
        with pytest.raises(StorageFailed, match="read_only=True"):
            opened(folder)
        before = files(folder)
        with read(folder) as memory:
            assert (memory.get_weight_hash(), len(memory.history())) == (named, 5)
            assert memory.infer(FACTS[0])["patterns"][0] in FACTS
            assert memory.export_jsonl(tmp_path / "all.jsonl") == 5
            memory.fork(tmp_path / "fork")
            with pytest.raises(ReadOnlyMemory):
                memory.observe("new")
        assert files(folder) == before
    with opened(tmp_path / "fork") as memory:
        assert memory.get_weight_hash() == named
        memory.observe("and on")


def test_there_must_be_something_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no memory"):
        read(tmp_path / "notes")
    assert not (tmp_path / "notes").exists()
