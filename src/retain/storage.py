"""Memory states on disk: safetensors with a versioned header and a checksum, written whole or not at all. No pickle is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
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
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.tensors()}
    header = {"format": FORMAT, "version": VERSION, "rule": repr(rule)}
    data = save(tensors, metadata={**header, "checksum": _checksum(header, tensors)})
    write_whole(Path(path), data)


def write_whole(target: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all: beside its place first, then into it."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    data = Path(path).read_bytes()
    header = _header(data)
    ours = FORMAT.encode() in data[:4096]
    if header is None or header.get("format") != FORMAT:
        if ours:
            raise DamagedStateFile(f"{path} was a memory state, but its header cannot be read any more. Go back to a copy of it.")
        raise NotAStateFile(f"{path} is not a saved memory state; save_state writes one.")
    if header.get("version") != VERSION:
        raise UnsupportedStateVersion(f"{path} is a memory state of format {header.get('version')!r}; this version of retain reads {VERSION!r}.")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise DamagedStateFile(f"{path} is cut short or damaged ({error}). Go back to a copy of it.") from None
    checksum = header.pop("checksum", None)
    if _checksum(header, tensors) != checksum:
        raise DamagedStateFile(f"{path} has changed since it was written: its checksum does not agree. Go back to a copy of it.")
    if header["rule"] != repr(rule):
        raise ForeignState(
            f"{path} was written under another rule and means nothing under this one.\n  written under: {header['rule']}\n  asked for:     {rule!r}"
        )
    return MemoryState.of(tensors)


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
