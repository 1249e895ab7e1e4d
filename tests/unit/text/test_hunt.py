"""Edges of a memory's folder and of what it takes in, and deaths in the middle of large changes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retain.text import StorageFailed, TextMemory
from tests.unit.text.memories import FACTS, opened, taught

CHANGER = """
import os, signal, sys
from pathlib import Path
from retain.text import generations
from retain.text.records import Records
from tests.unit.text.memories import opened
folder, change, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
memory = opened(folder)
other = opened(folder.parent / "other")

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "weights":
    generations.write = die
elif moment == "records":
    Records.set_meta = die
else:
    memory._opened.sweep = die
{"rollback": lambda: memory.rollback("kept"), "merge": lambda: memory.merge(other), "import": lambda: memory.import_jsonl(folder.parent / "lines"),
 "forget": lambda: memory.forget(2), "reset": memory.reset}[change]()
"""


def run(*words: str) -> "subprocess.Popen[str]":
    root = str(Path(__file__).parents[3])
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([root, f"{root}/src"]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True, env=where)


@pytest.mark.parametrize(
    ("change", "moment"), [("rollback", "weights"), ("merge", "records"), ("import", "weights"), ("forget", "records"), ("reset", "sweep")]
)
def test_death_in_a_large_change_leaves_it_done_or_not_begun(tmp_path: Path, change: str, moment: str) -> None:
    with taught(tmp_path / "notes", FACTS[:3]) as memory, opened(tmp_path / "other") as other:
        memory.snapshot("kept")
        memory.observe(FACTS[3])
        (tmp_path / "plain").write_text("".join(f'{{"text": "line {i}"}}\n' for i in range(70)))
        other.import_jsonl(tmp_path / "plain")
        other.export_jsonl(tmp_path / "lines")
        named, history = memory.get_weight_hash(), memory.history()
    with run(CHANGER, str(tmp_path / "notes"), change, moment) as process:
        assert process.wait(120) == -signal.SIGKILL
    with opened(tmp_path / "notes") as memory:
        if moment == "sweep":  # all but the tidying up was done
            assert memory.history() == []
        else:
            assert (memory.get_weight_hash(), memory.history(), memory.snapshots()) == (named, history, ["kept"])
        assert len(list((tmp_path / "notes").glob("weights-*"))) <= 1
        memory.observe("and on")


WRITER = """
import sys
from pathlib import Path
from tests.unit.text.memories import opened
memory = opened(Path(sys.argv[1]), timeout=60.0)
print("ready", flush=True)
for i in range(30):
    memory.observe(f"{sys.argv[2]} says {i}")
memory.close()
"""


def test_two_processes_observe_while_one_forgets_and_takes_snapshots(tmp_path: Path) -> None:
    with taught(tmp_path / "notes", FACTS[:6]) as memory:
        both = [run(WRITER, str(tmp_path / "notes"), name) for name in ("ann", "bob")]
        for process in both:
            assert process.stdout is not None
            process.stdout.readline()
        for number in (2, 4):
            memory.forget(number)
            memory.snapshot(f"s{number}")
        assert [process.wait(120) for process in both] == [0, 0]
        for process in both:
            process.communicate()
        texts = [entry["text"] for entry in memory.history()]
        assert sorted(texts) == sorted([*(FACTS[i] for i in (0, 2, 4, 5)), *(f"{name} says {i}" for name in ("ann", "bob") for i in range(30))])
        named = memory.get_weight_hash()
        kept = memory.snapshots()
    with taught(tmp_path / "one", texts) as model:
        assert model.get_weight_hash() == named
    for name in kept:
        with opened(tmp_path / "notes" / "snapshots" / name) as snapshot:
            told, texts = snapshot.get_weight_hash(), [entry["text"] for entry in snapshot.history()]
        with taught(tmp_path / name, texts) as model:
            assert model.get_weight_hash() == told


def test_a_folder_by_another_name_is_the_same_memory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with opened(tmp_path / "link") as one, opened(tmp_path / "real") as other:
        one.observe("by the link")
        assert other.history()[0]["text"] == "by the link"
        one.snapshot("s")
        assert other.snapshots() == ["s"]
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(StorageFailed, match="nowhere"):
        opened(tmp_path / "nowhere")


def test_what_a_record_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder? with #marks, 100% naïve ☕"
    with opened(folder) as memory:
        memory.observe("naïve ☕ 日本語 \U0001f600", "Ωμέγα", metadata={"größe": "☕"})
        for bad in ("", "   ", "\n"):
            with pytest.raises(ValueError, match="associate is empty"):
                memory.observe("question", bad)
        with pytest.raises(ValueError, match="most it may have"):
            memory.observe("fine", metadata={"page": "x" * 1_000_000})
        with pytest.raises(ValueError, match="most it may have"):
            memory.observe("fine", metadata={"page": ["☕"] * 30_000})
        monkeypatch.setattr(time, "time", lambda: -5.0)
        memory.observe("before its time")
        history = memory.history()
        named = memory.get_weight_hash()
    assert [entry["id"] for entry in history] == sorted(entry["id"] for entry in history)
    assert history[1]["time"] == -5.0 < history[0]["time"]
    assert (history[0]["associate"], history[0]["metadata"]) == ("Ωμέγα", {"größe": "☕"})
    with TextMemory.open(folder, embedder=memory.embedder, read_only=True) as memory:
        assert (memory.history(), memory.get_weight_hash()) == (history, named)
