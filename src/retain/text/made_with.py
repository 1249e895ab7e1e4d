"""What the memory in a folder was made with, told without opening it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from retain.core.errors import ForeignState

from . import snapshots
from .config import NOBODYS, MemoryConfig, Scope
from .embedders import Embedder, HashingEmbedder, MiniLM, WordLlama
from .errors import DamagedMemory, EmbedderMissing
from .records import FILE, Records


@dataclass(frozen=True, kw_only=True)
class MadeWith:
    """What a memory was made with.

    Args:
        config: Its config.
        identity: The name of its embedder.
        width: How many numbers that embedder's vectors have.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     before = MadeWith.read(folder)
        ...     TextMemory.open(folder, MemoryConfig(dim=32), embedder=HashingEmbedder(width=64)).close()
        ...     made = MadeWith.read(folder)
        >>> before, made.config.dim, made.embedder()
        (None, 32, HashingEmbedder(width=64))
    """

    config: MemoryConfig
    identity: str
    width: int

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, scope: Scope = NOBODYS, timeout: float = 10.0) -> MadeWith | None:
        """What the memory in a folder was made with; None if there is none.

        Raises:
            DamagedMemory: Its log is damaged.
            MemoryBusy: Another process kept writing for all of ``timeout``.
            StorageFailed: The folder cannot be read.
        """
        folder = scope.within(Path(path))
        if not (folder / FILE).is_file():
            return None
        try:
            records = Records(folder, timeout, "read")
            try:
                with records.reading():
                    meta = records.meta()
            finally:
                records.close()
        except DamagedMemory as error:
            raise snapshots.with_cure(error, folder) from None
        if not meta:
            return None
        return cls(config=MemoryConfig.from_json(meta["config"]), identity=meta["embedder"], width=int(meta["width"]))

    def embedder(self, device: str = "cpu") -> Embedder:
        """Its embedder, if it is one of this library.

        Args:
            device: Where it is to run, if it computes anything.

        Raises:
            EmbedderMissing: Its package is not installed.
            ForeignState: It is an embedder of somebody's own, or one of another version.
        """
        kind = self.identity.split("/")[0]
        if kind == "hashing":
            found: Embedder = HashingEmbedder(width=self.width)
        elif kind == "wordllama":
            found = WordLlama()
        else:
            found = MiniLM(device) if kind == "all-MiniLM-L6-v2" else self.absent()
        if isinstance(found, Absent) or found.identity != self.identity:
            raise ForeignState(
                f"the memory was made with the embedder {self.identity!r}, which this version of retain does not have. Cure: open it in Python, and hand that "
                "embedder over."
            )
        return found

    def absent(self) -> Embedder:
        """What stands in for the embedder where nothing is going to be embedded; it refuses to."""
        return Absent(identity=self.identity, width=self.width)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """An embedder of which only the name is there.

    Args:
        identity: That name.
        width: How many numbers its vectors have.
    """

    identity: str
    width: int

    def embed(self, texts: Sequence[str]) -> Tensor:
        raise EmbedderMissing(f"the memory was opened without its embedder {self.identity!r}. Cure: hand it over to TextMemory.open.")
