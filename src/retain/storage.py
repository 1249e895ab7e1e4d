"""Memories on disk: safetensors with a versioned header and a checksum, written whole or not at all. No pickle is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .core.errors import DamagedStateFile, ForeignState, NotAStateFile, UnsupportedStateVersion
from .core.rule import MemoryRule
from .core.state import MemoryState

FORMAT = "retain.memory-state"
VERSION = "1"


def save_state(state: MemoryState, path: str | os.PathLike[str], rule: MemoryRule) -> None:
    """Write a state so that it can be gone on from, bit by bit, by any engine.

    The file appears whole or not at all: it is written beside ``path`` and put in its place when it is complete.

    Args:
        state: What to save.
        path: Where to; an existing file is replaced.
        rule: The rule that the state belongs to; it is named in the file.

    Raises:
        OSError: The file cannot be written. What stood at ``path`` still stands there.

    Examples:
        >>> import tempfile
        >>> from retain import NeuralMemory
        >>> memory = NeuralMemory(8)
        >>> _, state = memory(torch.randn(1, 100, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(state, f"{folder}/notes.memory", memory.rule)
        ...     load_state(f"{folder}/notes.memory", memory.rule).hash() == state.hash()
        True
    """
    write_whole(Path(path), sealed(_format(), {"rule": repr(rule)}, dict(state.tensors())))


def load_state(path: str | os.PathLike[str], rule: MemoryRule) -> MemoryState:
    """Read a state that ``save_state`` wrote. Nothing is trusted before the checksum agrees.

    Args:
        path: The file.
        rule: The rule under which the state is to go on; it must be the one it was written under.

    Raises:
        NotAStateFile: The file is something else, a pickle for one.
        DamagedStateFile: It is cut short, or its bytes have changed.
        UnsupportedStateVersion: It was written in a format that this version does not know.
        ForeignState: It was written under another rule.
        OSError: The file cannot be read.

    Examples:
        >>> from retain import presets
        >>> load_state("pyproject.toml", presets.titans())
        Traceback (most recent call last):
        retain.core.errors.NotAStateFile: pyproject.toml is not a saved memory state; save_state writes one.
    """
    state, written = read_state(path)
    if written != repr(rule):
        raise ForeignState(
            f"{path} was written under another rule and means nothing under this one.\n  written under: {written}\n  asked for:     {rule!r}"
        )
    return state


def read_state(path: str | os.PathLike[str]) -> tuple[MemoryState, str]:
    """A state that ``save_state`` wrote, to be looked at, and the rule that it was written under, in words.

    Args:
        path: The file.

    Raises:
        NotAStateFile: The file is something else, a pickle for one.
        DamagedStateFile: It is cut short, or its bytes have changed.
        UnsupportedStateVersion: It was written in a format that this version does not know.
        OSError: The file cannot be read.

    Examples:
        >>> import tempfile
        >>> from retain import NeuralMemory
        >>> memory = NeuralMemory(8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(memory.start(1), f"{folder}/notes.memory", memory.rule)
        ...     state, rule = read_state(f"{folder}/notes.memory")
        >>> state.clock.tolist(), rule == repr(memory.rule)
        ([0], True)
    """
    header, tensors = unsealed(_format(), path)
    return MemoryState.of(tensors), header["rule"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of sealed file.

    Args:
        name: What stands in its header.
        version: Which one is written, and read.
        noun: What a message calls what is in it.
        writer: The function that writes one.

    Examples:
        >>> Format(name="retain.memory-state", version="1", noun="memory state", writer="save_state").version
        '1'
    """

    name: str
    version: str
    noun: str
    writer: str


def sealed(kind: Format, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a file of this kind: the tensors, and a header with a checksum over all that is in it.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> kind = Format(name="notes", version="1", noun="note", writer="a test")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.note"
        ...     write_whole(path, sealed(kind, {"of": "Anna"}, {"x": torch.ones(2)}))
        ...     header, tensors = unsealed(kind, path)
        >>> header["of"], tensors["x"]
        ('Anna', tensor([1., 1.]))
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    whole = {"format": kind.name, "version": kind.version, **header}
    return save(plain, metadata={**whole, "checksum": _checksum(whole, plain)})


def unsealed(kind: Format, path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and the tensors of a file of this kind. Nothing is trusted before the checksum agrees.

    Raises:
        NotAStateFile: The file is something else, a pickle for one.
        DamagedStateFile: It is cut short, or its bytes have changed.
        UnsupportedStateVersion: It was written in a format that this version does not know.
        OSError: The file cannot be read.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> kind = Format(name="notes", version="1", noun="note", writer="a test")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.note"
        ...     write_whole(path, b"something else")
        ...     try:
        ...         unsealed(kind, path)
        ...     except NotAStateFile:
        ...         print("refused")
        refused
    """
    data = Path(path).read_bytes()
    header = _header(data)
    if header is None or header.get("format") != kind.name:
        if kind.name.encode() in data[:4096]:
            raise DamagedStateFile(f"{path} was a {kind.noun}, but its header cannot be read any more. Go back to a copy of it.")
        raise NotAStateFile(f"{path} is not a saved {kind.noun}; {kind.writer} writes one.")
    if header.get("version") != kind.version:
        raise UnsupportedStateVersion(f"{path} is a {kind.noun} of format {header.get('version')!r}; this version of retain reads {kind.version!r}.")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise DamagedStateFile(f"{path} is cut short or damaged ({error}). Go back to a copy of it.") from None
    checksum = header.pop("checksum", None)
    if _checksum(header, tensors) != checksum:
        raise DamagedStateFile(f"{path} has changed since it was written: its checksum does not agree. Go back to a copy of it.")
    return header, tensors


def write_whole(target: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all: beside its place first, then into it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "a", b"all of it")
        ...     [path.name for path in Path(folder).iterdir()]
        ['a']
    """
    write_together({target: data}, mode)


def write_together(files: Mapping[Path, bytes], mode: int = 0o600) -> None:
    """Write files that belong together, all of them whole or none at all: beside their places first, then into them.

    What cannot be had is two files put in place at one instant: whoever reads them should know whether they belong together.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_together({Path(folder) / "a": b"one", Path(folder) / "b": b"two"})
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['a', 'b']
    """
    written: dict[Path, Path] = {}
    kept: dict[Path, Path | None] = {}
    try:
        for target, data in files.items():
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            written[target] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
        *others, _ = files
        for target in others:
            kept[target] = written[target].with_suffix(".kept") if target.exists() else None
            if (copy := kept[target]) is not None:
                os.link(target, copy)
        for target, temporary in written.items():
            os.replace(temporary, target)
    except BaseException:
        for target, copy in kept.items():
            if not written[target].exists():  # it is in its place already
                target.unlink() if copy is None else copy.rename(target)
        raise
    finally:
        for leftover in (*written.values(), *kept.values()):
            if leftover is not None:
                leftover.unlink(missing_ok=True)


def _format() -> Format:
    return Format(name=FORMAT, version=VERSION, noun="memory state", writer="save_state")


def _checksum(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"{name}:{t.dtype}:{list(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _header(data: bytes) -> dict[str, str] | None:
    length = int.from_bytes(data[:8], "little")
    try:
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError):
        return None
    return dict(metadata) if isinstance(metadata, dict) else None
