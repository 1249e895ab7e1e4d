"""Errors of a text memory that callers may want to catch by name. Plain misuse is a ``ValueError`` with its cure."""

from __future__ import annotations

from retain.core.errors import DamagedStateFile


class MemoryBusy(TimeoutError):
    """Another process is writing to the memory and did not finish in the time that was allowed. Nothing was changed."""


class StorageFailed(OSError):
    """The disk is full, or the folder may not be written to. What was acknowledged before is still there."""


class ReadOnlyMemory(PermissionError):
    """The memory was opened to be read, and the call would have changed it. Nothing was changed."""


class DamagedMemory(DamagedStateFile):
    """A file of the memory is cut short, or its bytes have changed; the message names it.

    Args:
        message: What is damaged, and the cure.
        snapshot: The newest snapshot that is whole, to be gone back to; None if there is none.
    """

    def __init__(self, message: str, snapshot: str | None = None) -> None:
        super().__init__(message)
        self.snapshot = snapshot


class EmbedderMissing(ImportError):
    """An embedder's package is not installed; the message says what to install."""
