"""Copies of a memory: each is a whole memory of its own, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from . import generations
from .errors import DamagedMemory, StorageFailed
from .opened import Opened
from .records import FILE, Records

FOLDER = "snapshots"
_NAME = re.compile(r"[\w-][\w.-]{0,63}")


def copy(memory: Opened, target: Path) -> None:
    """Put a copy of a memory into a folder that is not there yet; it appears whole or not at all.

    Raises:
        FileExistsError: The folder is there.
        StorageFailed: It cannot be written.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already. Cure: another name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        being_made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise StorageFailed(f"{target} cannot be made: {error}. Cure: choose a folder that may be written to.") from None
    try:
        with memory.still():
            learner = memory.current()
            memory.records.copy_to(being_made)
            generations.write(being_made, 1, memory.at, learner.tensors())
        records = Records(being_made, timeout=1.0)
        with records.writing():
            records.set_meta(generation=1, last=memory.at, epoch=0)
        records.settle()
        records.close()
        os.rename(being_made, target)
    except OSError as error:
        raise error if isinstance(error, (StorageFailed, TimeoutError)) else StorageFailed(f"{target} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(being_made, ignore_errors=True)


def place(folder: Path, name: str) -> Path:
    """Where the snapshot of that name lies.

    Raises:
        ValueError: The name cannot be that of a folder.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a snapshot's name has up to 64 letters, digits, '_', '-' and '.', and does not begin with '.', got {name!r}.")
    return folder / FOLDER / name


def names(folder: Path) -> list[str]:
    """The snapshots of a memory, the oldest first."""
    found = [path for path in (folder / FOLDER).glob("*") if not path.name.startswith(".") and (path / FILE).is_file()]
    return [path.name for path in sorted(found, key=lambda path: ((path / FILE).stat().st_mtime_ns, path.name))]


def last_good(folder: Path) -> str | None:
    """The newest snapshot of a memory that is whole."""
    for name in reversed(names(folder)):
        try:
            read(place(folder, name))
        except (DamagedMemory, OSError):
            continue
        return name
    return None


def read(folder: Path) -> tuple[Records, dict[str, str]]:
    """The log of a snapshot, closed again if anything in it, or in its weights, is not as it was written; and what it is made with.

    Raises:
        FileNotFoundError: There is no such snapshot; those that there are are named.
        DamagedMemory: It is damaged.
    """
    try:
        records = Records(folder, timeout=5.0, access="write")
    except FileNotFoundError:
        there = ", ".join(names(folder.parent.parent)) or "none"
        raise FileNotFoundError(f"there is no snapshot {folder.name!r} of {folder.parent.parent}. There are: {there}.") from None
    try:
        meta = records.meta()
        for _ in records.after():
            pass
        generations.read(folder, int(meta["generation"]), int(meta["last"]))
    except BaseException:
        records.close()
        raise
    return records, meta


def holding(folder: Path, number: int) -> list[str]:
    """The snapshots that hold the record of that number, or cannot be read."""
    found = []
    for name in names(folder):
        try:
            records, _ = read(place(folder, name))
        except DamagedMemory:
            found.append(name)
            continue
        if records.of(number) is not None:
            found.append(name)
        records.close()
    return found


def recover(folder: Path, name: str) -> None:
    """Put a snapshot in the place of a memory that is damaged. What is damaged is kept beside it, under names that end in ``.damaged``."""
    source = place(folder, name)
    records, _ = read(source)
    records.settle()
    records.close()
    for path in [*folder.glob(f"{FILE}*"), *folder.glob("weights-*.safetensors")]:
        if path.suffix != ".damaged":
            os.replace(path, path.with_name(path.name + ".damaged"))
    for path in source.glob("weights-*.safetensors"):
        shutil.copy2(path, folder / path.name)
    shutil.copy2(source / FILE, folder / f".{FILE}.new")
    os.replace(folder / f".{FILE}.new", folder / FILE)


def with_cure(error: DamagedMemory, folder: Path) -> DamagedMemory:
    """The error, and the newest snapshot to go back to."""
    name = last_good(folder)
    if name is None:
        return DamagedMemory(f"{error} There is no snapshot of it that is whole.")
    return DamagedMemory(f"{error} Cure: TextMemory.recover(path, {name!r}) goes back to the newest whole snapshot.", name)
