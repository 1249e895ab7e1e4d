"""The folder of a run: results and models, each written whole or not at all, so that an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from retain.storage import write_whole

PROGRESS = "progress.json"


class FolderError(ValueError):
    """The folder of a run cannot be used as asked. The message says why, and what to do."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it has finished.

    Args:
        path: The folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     folder = RunFolder.open(Path(place) / "demo", {"seed": 0})
        ...     folder.finish("train", {"loss": 0.5})
        ...     RunFolder.open(folder.path, {"seed": 0}).result("train")
        {'loss': 0.5}
    """

    path: Path

    @classmethod
    def open(cls, path: Path, options: Mapping[str, Any], fresh: bool = False) -> RunFolder:
        """Make the folder ready, or go on from what it holds.

        Args:
            path: The folder; it is made if it is not there.
            options: What decides the results. They are kept with them and compared.
            fresh: Forget what an earlier run left.

        Raises:
            FolderError: The folder cannot be written, is damaged, or holds a run with other options.
        """
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder.write(".writable", b"")
            (path / ".writable").unlink()
        except OSError as error:
            raise FolderError(f"the output folder {path} cannot be written ({error.strerror or error}). Cure: name another one with --out.") from None
        options = json.loads(json.dumps(options))
        if fresh:
            folder._forget()
        if (path / PROGRESS).exists():
            found = folder._progress().get("options")
            if found != options:
                differ = ", ".join(f"{k}: {(found or {}).get(k)!r} there, {v!r} now" for k, v in options.items() if (found or {}).get(k) != v)
                raise FolderError(
                    f"{path} holds a run with other options ({differ or 'unknown ones'}). Cure: repeat those options to go on with it, "
                    "name another folder with --out, or start anew with --fresh."
                )
        else:
            folder._keep({"options": options, "models": [], "finished": {}})
        return folder

    def result(self, stage: str) -> Any:
        """What a finished stage came to, or None."""
        return self._progress()["finished"].get(stage)

    def results(self) -> dict[str, Any]:
        """All finished stages."""
        return dict(self._progress()["finished"])

    def finish(self, stage: str, result: Any) -> None:
        """Record what a stage came to."""
        progress = self._progress()
        progress["finished"][stage] = result
        self._keep(progress)

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
        """Write tensors with a few words about them to ``name``.safetensors."""
        progress = self._progress()
        if name not in progress["models"]:
            progress["models"].append(name)
            self._keep(progress)
        plain = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
        self.write(f"{name}.safetensors", save(plain, metadata=dict(about)))

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """The tensors and words of ``name``.safetensors; None if there is no such file.

        Raises:
            FolderError: The file is damaged.
        """
        file = self.path / f"{name}.safetensors"
        if not file.exists():
            return None
        data = file.read_bytes()
        try:
            tensors = load(data)
            words = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        except (SafetensorError, ValueError) as error:
            raise FolderError(f"{file} is damaged ({error}). Cure: start anew with --fresh.") from None
        return tensors, words

    def drop(self, name: str) -> None:
        """Remove ``name``.safetensors if it is there."""
        (self.path / f"{name}.safetensors").unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> Path:
        """Write a file of the folder whole or not at all: beside its place first, then into it."""
        target = self.path / name
        write_whole(target, data, mode=0o644)
        return target

    def _progress(self) -> dict[str, Any]:
        file = self.path / PROGRESS
        try:
            progress = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(f"{file} cannot be read ({error}). Cure: start anew with --fresh, or name another folder with --out.") from None
        if not isinstance(progress, dict) or not {"options", "models", "finished"} <= progress.keys():
            raise FolderError(f"{file} is not the progress of a run. Cure: start anew with --fresh, or name another folder with --out.")
        return progress

    def _keep(self, progress: Mapping[str, Any]) -> None:
        self.write(PROGRESS, json.dumps(progress, indent=1).encode())

    def _forget(self) -> None:
        try:
            models = self._progress().get("models", [])
        except FolderError:
            models = []
        for name in models:
            self.drop(name)
        (self.path / PROGRESS).unlink(missing_ok=True)
