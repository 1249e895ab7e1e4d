"""The weights of a text memory on disk: a file for each generation, whole before the log names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from retain.core.errors import StateFileError
from retain.storage import Format, sealed, unsealed, write_whole

from .errors import DamagedMemory, StorageFailed

FORMAT = Format(name="retain.text-memory-weights", version="1", noun="text memory's weights", writer="TextMemory")


def path_of(folder: Path, generation: int) -> Path:
    """Where a generation lies."""
    return folder / f"weights-{generation:08d}.safetensors"


def write(folder: Path, generation: int, last: int, tensors: Mapping[str, Tensor]) -> None:
    """Write the weights as they are after the record ``last``.

    Raises:
        StorageFailed: They cannot be written.
    """
    path = path_of(folder, generation)
    try:
        write_whole(path, sealed(FORMAT, {"generation": f"{generation:08d}", "last": f"{last:020d}"}, tensors))
    except OSError as error:
        raise StorageFailed(
            f"{path} cannot be written: {error}. Nothing was changed by this call, and what was acknowledged before is still there. Cure: make room."
        ) from None


def read(folder: Path, generation: int, last: int) -> dict[str, Tensor]:
    """The weights as they were after the record ``last``.

    Raises:
        DamagedMemory: The file is missing, or not what was written.
    """
    path = path_of(folder, generation)
    try:
        header, tensors = unsealed(FORMAT, path)
    except FileNotFoundError:
        raise DamagedMemory(f"{path} is missing, and the log names it.") from None
    except StateFileError as error:
        raise DamagedMemory(str(error)) from None
    found = int(header["last"])
    if found != last:
        raise DamagedMemory(f"{path} holds the weights after record {found}, and the log says {last}: it is from another memory.")
    return tensors


def sweep(folder: Path, generation: int) -> None:
    """Remove the files of other generations, and what a write that was cut off left behind."""
    for path in [*folder.glob("weights-*.safetensors"), *folder.glob(".weights-*")]:
        if path != path_of(folder, generation):
            path.unlink(missing_ok=True)
