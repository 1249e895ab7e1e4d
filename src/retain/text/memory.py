"""A text memory: a folder with a neural memory's weights, and beside them the texts that it read."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from retain.core.errors import ForeignState
from retain.storage import write_whole

from . import interchange, snapshots
from .acceptable import checked_metadata, checked_text
from .config import NOBODYS, MemoryConfig, Scope, checked_positive
from .embedders import Embedder, MiniLM, embedded
from .errors import DamagedMemory, ReadOnlyMemory, StorageFailed
from .learner import Learner
from .opened import Opened, taught
from .records import Observed
from .results import HistoryEntry, InferResult, ObserveResult


class TextMemory:
    """A memory that learns each text it is shown by one step of a rule on the weights of a small network, and answers by what the network says.

    The rule is Titans' unless ``MemoryConfig(preset=...)`` names another.

    Weights cannot give a text back, so the texts lie beside them; an answer is a vector, and its patterns are the texts that it is nearest to. The weights
    are of one size however much is observed, and old texts fade from them as new ones come; the texts stay until they are forgotten.

    An observation that has returned survives the death of the process. Loss of power may take those since the last ``flush``, but damages nothing.
    Several processes may have one memory open: each write waits for the one before it, and every process learns what the others wrote.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     memory = TextMemory.open(f"{folder}/notes.memory", MemoryConfig(dim=32), embedder=HashingEmbedder())
        ...     first = memory.observe("Python uses indentation")["surprise"]
        ...     lower = memory.surprise("Python uses indentation") < first
        ...     best = memory.infer("how are blocks marked in Python?")["patterns"]
        ...     memory.close()
        >>> first, lower, best
        (0.5, True, ['Python uses indentation'])
    """

    def __init__(self, opened: Opened, embedder: Embedder) -> None:
        self._opened, self.embedder, self._is_open = opened, embedder, True

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        config: MemoryConfig | None = None,
        *,
        embedder: Embedder | None = None,
        scope: Scope = NOBODYS,
        timeout: float = 10.0,
        read_only: bool = False,
    ) -> TextMemory:
        """Open the memory in a folder, and make it if there is none.

        Args:
            path: The folder.
            config: What it is made with. None takes what is stored, or the default. ``learning_rate`` and ``device`` may change from one opening to the
                next; the others belong to a memory for good.
            embedder: What turns texts into vectors; ``MiniLM`` unless given.
            scope: Whose memory of this folder it is.
            timeout: Seconds that a call waits while another process writes.
            read_only: Whether it is only asked, exported and forked: what would change it is refused, and nothing is written to the folder, which may lie
                where nothing can be. There it is seen as it is now; elsewhere it learns on what others write.

        Raises:
            FileNotFoundError: There is no memory, and it is to be read only.
            EmbedderMissing: No embedder is given, and MiniLM is not installed.
            ForeignState: It was made with another embedder or another config.
            DamagedMemory: A file has changed since it was written; the message names it, and the newest snapshot that is whole.
            MemoryBusy: Another process kept writing for all of ``timeout``.
            StorageFailed: The folder cannot be written to.
        """
        if not (math.isfinite(timeout) and timeout >= 0):
            raise ValueError(f"timeout counts seconds, 0 or more, got {timeout}.")
        folder = scope.within(Path(path))
        embedder = MiniLM() if embedder is None else embedder
        try:
            return cls(Opened(folder, config, embedder, timeout, "read" if read_only else "make"), embedder)
        except DamagedMemory as error:
            raise snapshots.with_cure(error, folder) from None

    @classmethod
    def recover(cls, path: str | os.PathLike[str], snapshot: str, *, scope: Scope = NOBODYS) -> None:
        """Put a snapshot in the place of a damaged memory, which nobody may have open. What is damaged stays beside it, renamed to ``.damaged``.

        Raises:
            DamagedMemory: The snapshot is damaged, too.
            FileNotFoundError: There is no such snapshot.
        """
        snapshots.recover(scope.within(Path(path)), snapshot)

    @property
    def config(self) -> MemoryConfig:
        """What it was opened with."""
        return self._opened.config

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._opened.folder

    def observe(
        self, text: str, associate: str | None = None, *, learning_rate: float | None = None, metadata: dict[str, Any] | None = None
    ) -> ObserveResult:
        """Learn a text: one step of the rule towards answering its embedding by its associate's.

        Args:
            text: What is read.
            associate: What the text is to recall; itself unless given.
            learning_rate: For this step only.
            metadata: What is to be kept with the record; anything JSON can hold.

        Raises:
            TypeError: The text is no string.
            ValueError: Text, rate or metadata is not acceptable. Nothing was changed.
            MemoryBusy: Another process is writing. Nothing was changed.
            StorageFailed: The disk is full. Nothing was changed.
        """
        self._check_may_change()
        rate = self.config.learning_rate if learning_rate is None else checked_positive("learning_rate", float(learning_rate))
        key, value = self._embedded(text, associate)
        observed = Observed(
            text=text, associate=associate, time=time.time(), metadata=checked_metadata(metadata), key=key, value=value, learning_rate=rate
        )
        with self._open() as opened:
            ((record, step),) = opened.append([observed])
            activated = [text for text, _ in opened.records.texts(step.activated)]
        return ObserveResult(id=record.id, surprise=step.surprise, weight_delta=step.weight_delta, patterns_activated=activated)

    def infer(self, text: str, *, top: int = 5, temperature: float = 0.1) -> InferResult:
        """Ask the memory, which stays as it is.

        Its answer is what its weights make of the text's embedding. The patterns are the texts whose embeddings are nearest to that answer, and the
        attention over them is a softmax of the cosines over ``temperature``. See ``Calibration`` for what the confidence means.

        Args:
            text: The question.
            top: How many patterns at most.
            temperature: How evenly attention is spread over the texts.

        Raises:
            ValueError: The text is not acceptable, or a number is not in its range.
        """
        if top < 1:
            raise ValueError(f"top counts patterns and must be at least 1, got {top}.")
        checked_positive("temperature", temperature)
        key, _ = self._embedded(text, None)
        with self._open() as opened:
            learner = opened.reading()
            response = learner.answer(learner.key(key))
            if not len(learner.patterns):
                return InferResult(response=response, confidence=0.0, attention_weights=[], patterns=[], ids=[])
            best = learner.scores(response).topk(min(top, len(learner.patterns)))
            ids = [learner.patterns.ids[i] for i in best.indices.tolist()]
            patterns = [text if associate is None else associate for text, associate in opened.records.texts(ids)]
            confidence = learner.calibration.confidence(float(best.values[0]))
        weights = torch.softmax(best.values / temperature, dim=0).tolist()
        return InferResult(response=response, confidence=confidence, attention_weights=weights, patterns=patterns, ids=ids)

    def surprise(self, text: str, associate: str | None = None) -> float:
        """How surprising the memory finds a text as it stands, from 0 to 1: one half is a typical text of this stream that it has not seen."""
        key, value = self._embedded(text, associate)
        with self._open() as opened:
            learner = opened.reading()
            return learner.calibration.surprise(learner.error(key, value))

    def get_weight_hash(self) -> str:
        """16 hexadecimal digits that name the weights: the same after the same history, in every run on one machine, and under the default rule on all.

        Other rules are run by engines, whose matrix products add in whatever order suits the processor: on another kind of it, or with another number of
        threads, the last digits of their weights may differ, and so will the hash. A folder that is carried over keeps its hash until it learns.
        """
        with self._open() as opened:
            return opened.reading().hash()

    def stats(self) -> dict[str, Any]:
        """How many records there are, how large the weights are, what error is typical, and where the memory stands."""
        with self._open() as opened:
            learner = opened.reading()
            sizes = {
                "parameters": sum(w.numel() for w in learner.weights.matrices()),
                "weight_norm": math.sqrt(sum(float(w.square().sum()) for w in learner.weights.matrices())),
            }
            return {
                "records": len(learner.patterns),
                **sizes,
                "typical_error": learner.calibration.typical,
                "embedder": self.embedder.identity,
                "path": str(opened.folder),
                "snapshots": snapshots.names(opened.folder),
            }

    def history(self, after: int = 0) -> list[HistoryEntry]:
        """The records behind a number, in the order in which they were observed."""
        with self._open() as opened:
            opened.reading()
            return [
                HistoryEntry(
                    id=record.id,
                    text=record.observed.text,
                    associate=record.observed.associate,
                    time=record.observed.time,
                    metadata=json.loads(record.observed.metadata),
                    surprise=record.surprise,
                )
                for record in opened.records.after(after)
            ]

    def forget(self, number: int) -> list[str]:
        """Forget a record: its text, and all that its step has ever done to the weights.

        There is no step back, so the weights begin anew and learn every other record again, in order: bit by bit those of a memory that never saw this one.
        That takes as long as observing them did, without embedding. Snapshots that hold the record are removed. Its bytes are overwritten in the log.

        Returns:
            The names of the snapshots that were removed.

        Raises:
            KeyError: There is no such record.
        """
        self._check_may_change()
        with self._open() as opened, opened.changing():
            if opened.records.of(number) is None:
                raise KeyError(f"there is no record {number} to forget; history() lists them.")
            opened.records.remove(number)
            opened.become(taught(self.config, self.embedder.width, opened.records.after()), opened.at)
            holding = snapshots.holding(opened.folder, number)
            for name in holding:
                shutil.rmtree(snapshots.place(opened.folder, name))
        with self._open() as opened:
            opened.sweep()
            opened.records.settle()
        return holding

    def reset(self) -> None:
        """Forget everything; snapshots stay."""
        self._check_may_change()
        self._change(lambda opened: (opened.records.remove(), opened.become(Learner(self.config, self.embedder.width), opened.at)))

    def snapshot(self, name: str) -> None:
        """Keep the memory as it is under a name. A snapshot is a whole memory: it can be opened by itself.

        Raises:
            ValueError: The name cannot be that of a folder.
            FileExistsError: There is a snapshot of that name.
        """
        self._check_may_change()
        with self._open() as opened:
            snapshots.copy(opened, snapshots.place(opened.folder, name))

    def snapshots(self) -> list[str]:
        """The names of the snapshots, the oldest first."""
        return snapshots.names(self.path)

    def rollback(self, name: str) -> None:
        """Go back to a snapshot: records and weights are what they were, and whatever was observed since is gone. The snapshot stays.

        Raises:
            FileNotFoundError: There is no such snapshot.
            DamagedMemory: It is damaged. Nothing was changed.
        """
        self._check_may_change()
        source, _ = snapshots.read(snapshots.place(self.path, name))
        source.close()
        with TextMemory(Opened(snapshots.place(self.path, name), None, self.embedder, 5.0, "write"), self.embedder) as kept:
            learner, at = kept._opened.reading(), kept._opened.at
            records = list(kept._opened.records.after())
        learner.config = self.config
        self._change(lambda opened: (opened.records.remove(), opened.records.put(records), opened.become(learner, max(at, opened.at))))

    def fork(self, path: str | os.PathLike[str]) -> None:
        """Put a copy of the memory as it is into another folder, to go its own way.

        Raises:
            FileExistsError: The folder is there.
        """
        with self._open() as opened:
            snapshots.copy(opened, Path(path))

    def merge(self, other: TextMemory) -> int:
        """Learn all that another memory has read, in its order, after what this one has read; the other stays as it is. All of it or nothing.

        Weights of two memories cannot be added up: what a step does depends on what was known. So the records are learnt again.

        Returns:
            How many records were learnt.

        Raises:
            ForeignState: The memories have different embedders.
        """
        self._check_may_change()
        if other.embedder.identity != self.embedder.identity:
            raise ForeignState(
                f"memories with the embedders {self.embedder.identity!r} and {other.embedder.identity!r} cannot be merged: their vectors have nothing to do "
                "with each other. Cure: export the other's texts, and import them, which embeds them anew."
            )
        with other._open() as theirs:
            theirs.reading()
            many = [record.observed for record in theirs.records.after()]
        with self._open() as opened:
            return len(opened.append(many))

    def export_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Write all records as lines of JSON, a text each with all that is needed to learn it again; returns how many. The file appears whole or not at all."""
        with self._open() as opened:
            opened.reading()
            text = list(interchange.lines(opened.records.after(), self.embedder.identity))
        try:
            write_whole(Path(path), "".join(f"{line}\n" for line in text).encode())
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error}.") from None
        return len(text) - 1

    def import_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Learn the texts of a file of lines, in order, all of them or none; returns how many. A line is an object with at least a ``text``.

        A memory of the same config that imports what another exported has the same weights, bit by bit, if it was empty.

        Raises:
            ValueError: A line is not what it should be; it is named. Nothing was changed.
        """
        self._check_may_change()
        many = interchange.parsed(Path(path), self.embedder, self.config.learning_rate)
        with self._open() as opened:
            return len(opened.append(many))

    def flush(self) -> None:
        """Have all that was observed in its final place on the disk, so that it survives the loss of power."""
        self._check_may_change()
        with self._open() as opened:
            opened.settle()

    def close(self) -> None:
        """Flush, and let go of the files; a memory that is closed can be closed again."""
        if self._is_open:
            try:
                if self._opened.access != "read":
                    self._opened.settle()
            finally:
                self._is_open = False
                self._opened.records.close()

    def __enter__(self) -> TextMemory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_may_change(self) -> None:
        if self._opened.access == "read":
            raise ReadOnlyMemory(
                f"{self.path} was opened with read_only=True, and this would change it. Cure: open it without, or fork it to a folder that may be written to."
            )

    def _embedded(self, text: str, associate: str | None) -> tuple[bytes, bytes]:
        texts = [checked_text(text)] if associate is None else [checked_text(text), checked_text(associate, "associate")]
        key, *others = embedded(self.embedder, texts)
        return key, others[0] if others else key

    def _change(self, change: Callable[[Opened], object]) -> None:
        with self._open() as opened:
            with opened.changing():
                change(opened)
            opened.sweep()

    @contextmanager
    def _open(self) -> Generator[Opened, None, None]:
        if not self._is_open:
            raise ValueError("this memory is closed. Cure: open it again.")
        with self._opened.lock:
            try:
                yield self._opened
            except DamagedMemory as error:
                raise snapshots.with_cure(error, self._opened.folder) from None
