"""The folder of a run: it goes on, refuses what it must, and never holds half a file."""

import json
import os
from pathlib import Path

import pytest
import torch

from retain.demo.folder import PROGRESS, FolderError, RunFolder


def test_a_finished_stage_is_found_again(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path / "deep/out", {"seed": 0, "needles": (1, 2)})
    folder.finish("train", {"loss": 1.5})
    again = RunFolder.open(folder.path, {"seed": 0, "needles": (1, 2)})
    assert (again.result("train"), again.result("read")) == ({"loss": 1.5}, None)


def test_other_options_are_refused_and_named(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, {"seed": 0, "length": 4096}).finish("train", 1)
    with pytest.raises(FolderError, match=r"seed: 0 there, 7 now.*--fresh"):
        RunFolder.open(tmp_path, {"seed": 7, "length": 4096})
    assert RunFolder.open(tmp_path, {"seed": 0, "length": 4096}).result("train") == 1


def test_fresh_forgets_its_own_files_and_no_others(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path, {"seed": 0})
    folder.save_tensors("needle", {"w": torch.ones(2)}, {})
    folder.finish("train", 1)
    (tmp_path / "mine.safetensors").write_bytes(b"precious")
    anew = RunFolder.open(tmp_path, {"seed": 1}, fresh=True)
    assert anew.result("train") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.safetensors", PROGRESS]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs a place that nobody may write")
def test_an_unwritable_folder_is_refused_by_name(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    for place in (blocker, blocker / "below", Path("/proc/demo")):
        with pytest.raises(FolderError, match=r"cannot be written.*--out"):
            RunFolder.open(place, {})
    assert blocker.read_text() == "in the way"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"options": {}}'])
def test_damaged_progress_is_refused_with_the_cure(tmp_path: Path, content: str) -> None:
    (tmp_path / PROGRESS).write_text(content)
    with pytest.raises(FolderError, match=r"--fresh"):
        RunFolder.open(tmp_path, {})
    assert RunFolder.open(tmp_path, {}, fresh=True).result("train") is None


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path, {})
    assert folder.load_tensors("needle") is None
    folder.save_tensors("needle", {"w": torch.arange(6.0).reshape(2, 3).t()}, {"steps": "9"})
    found = folder.load_tensors("needle")
    assert found is not None
    assert torch.equal(found[0]["w"], torch.arange(6.0).reshape(2, 3).t())
    assert found[1] == {"steps": "9"}


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path, {})
    folder.save_tensors("needle", {"w": torch.ones(100)}, {})
    file = tmp_path / "needle.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(FolderError, match=r"damaged.*--fresh"):
        folder.load_tensors("needle")


def test_a_failed_write_leaves_the_old_file_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.open(tmp_path, {"seed": 0})

    def broken(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk is full"):
        folder.finish("train", 1)
    assert [p.name for p in tmp_path.iterdir()] == [PROGRESS]
    assert json.loads((tmp_path / PROGRESS).read_text())["finished"] == {}
