"""A memory's folder, opened: its log, and a learner that keeps up with it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from retain.core.errors import ForeignState, UnsupportedStateVersion

from . import generations
from .config import MemoryConfig
from .embedders import Embedder
from .errors import DamagedMemory, StorageFailed
from .learner import Learner, Step
from .records import Access, Observed, Record, Records

FORMAT = "2"
CHECKPOINT_EVERY = 64  # records between two generations of weights, and so the most that are learnt again when a memory is opened after a crash


class Opened:
    """The log is the truth, and the weights are a function of it: those of the generation that the log names, and the records behind it learnt again.

    So a record is acknowledged when it is in the log, and nothing else need reach the disk for it; and a process that finds records of another in the log
    learns them, and has the same weights.

    Args:
        folder: Where it lies; it is made if it is absent.
        config: What it is made with; what belongs to a memory for good must agree with what is stored.
        embedder: What turns texts into vectors; None if none is asked for.
        timeout: Seconds to wait while another process writes.
        access: Whether to ``"make"`` the memory if there is none, to ``"write"`` to one that is there, or to ``"read"`` it.
    """

    def __init__(self, folder: Path, config: MemoryConfig | None, embedder: Embedder, timeout: float, access: Access = "make") -> None:
        self.folder, self.lock, self.access = folder, threading.RLock(), access
        try:
            if access == "make":
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"{folder} cannot be made: {error}. Cure: choose a folder that may be written to.") from None
        self.records = Records(folder, timeout, access)
        try:
            with self.still():
                if access != "read":
                    self._begin(config, embedder)
                self.config, self.learner = self._agreed(self.records.meta(), config, embedder), None
                if access != "read":
                    self._load()
                    generations.sweep(folder, self.generation)
            if access == "read":
                self.reading()
        except BaseException:
            self.records.close()
            raise

    def still(self) -> AbstractContextManager[None]:
        """Nothing that is looked at within is changed by others meanwhile."""
        return self.records.reading() if self.access == "read" else self.records.writing()

    def _begin(self, config: MemoryConfig | None, embedder: Embedder) -> None:
        if self.records.meta():
            return
        config = config or MemoryConfig()
        facts = {"format": FORMAT, "name": uuid.uuid4().hex, "config": config.to_json(), "embedder": embedder.identity, "width": embedder.width}
        self.records.set_meta(**facts, generation=0, last=0, epoch=0)

    def _agreed(self, meta: dict[str, str], config: MemoryConfig | None, embedder: Embedder) -> MemoryConfig:
        if not meta:
            raise FileNotFoundError(f"there is no memory in {self.folder} yet: whoever began to make one did not finish.")
        if meta["format"] != FORMAT:
            raise UnsupportedStateVersion(f"{self.folder} is a text memory of format {meta['format']!r}; this version of retain reads {FORMAT!r}.")
        if (meta["embedder"], meta["width"]) != (embedder.identity, str(embedder.width)):
            raise ForeignState(
                f"{self.folder} was made with the embedder {meta['embedder']!r}, and {embedder.identity!r} was handed over: their vectors have nothing to "
                "do with each other. Cure: open it with the embedder it was made with, or export its texts and import them into a new memory."
            )
        stored = MemoryConfig.from_json(meta["config"])
        if config is None:
            return stored
        differing = {name for name, value in config.learnt_with.items() if stored.learnt_with[name] != value}
        if differing:
            told = ", ".join(f"{name}={asdict(stored)[name]!r} and not {asdict(config)[name]!r}" for name in sorted(differing))
            raise ForeignState(f"{self.folder} was made with {told}. Cure: open it with these, or without a config, or make another memory.")
        return config

    def _load(self) -> None:
        """Read everything anew."""
        meta = self.records.meta()
        self.generation, self.last, self.epoch = int(meta["generation"]), int(meta["last"]), int(meta["epoch"])
        self.learner: Learner | None = None
        learner, at = Learner(self.config, int(meta["width"])), 0
        if self.generation:
            learner.load(generations.read(self.folder, self.generation, self.last))
        known, keys, values = self.records.embeddings(self.last)
        if known:
            learner.patterns.extend(known, _grid(keys, len(known)), _grid(values, len(known)))
            at = known[-1]
        if learner.count != len(known):
            raise DamagedMemory(f"{self.records.path} has {len(known)} records where {learner.count} were learnt: some were lost.")
        for record in self.records.after(self.last):
            _learn(learner, record)
            at = record.id
        self.learner, self.at, self._seen = learner, at, self.records.version

    def current(self) -> Learner:
        """The learner, after all that any process has written."""
        if self.learner is None:
            self._load()
        elif (version := self.records.version) != self._seen:
            meta = self.records.meta()
            if int(meta["epoch"]) != self.epoch:
                self._load()
            else:
                self.generation, self.last = int(meta["generation"]), int(meta["last"])
                for record in self.records.after(self.at):
                    _learn(self.learner, record)
                    self.at = record.id
                self._seen = version
        assert self.learner is not None
        return self.learner

    @contextmanager
    def changing(self) -> Generator[None, None, None]:
        """What happens within happens to the log and to the weights, or to neither."""
        with self.lock:
            try:
                with self.records.writing():
                    self.current()
                    yield
            except BaseException:
                self.learner = None  # it may have learnt what the log does not hold
                raise

    def reading(self) -> Learner:
        """The learner, after all that any process has written, to be asked and not changed; hold ``lock`` meanwhile."""
        if self.learner is None or self.records.version != self._seen:
            self._keep_up(tries=3 if self.access == "read" else 1)
        return self.current()

    def _keep_up(self, tries: int) -> None:
        """Learn what others wrote. They may remove the weights that a reader is about to read, for newer ones, which are there the next time."""
        try:
            with self.still():
                self.current()
        except BaseException as error:
            self.learner = None
            if tries == 1 or not isinstance(error, DamagedMemory):
                raise
            self._keep_up(tries - 1)

    def append(self, many: Iterable[Observed]) -> list[tuple[Record, Step]]:
        """Learn texts one after the other, all of them or none."""
        done, before = [], self.generation
        with self.lock:
            with self.changing():
                if self.at - self.last >= CHECKPOINT_EVERY:
                    self.checkpoint()
                learner = self.current()
                for observed in many:
                    number = self.records.append(observed)
                    step = learner.observe(number, observed.key, observed.value, observed.learning_rate)
                    record = Record(id=number, observed=observed, surprise=step.surprise)
                    self.records.finish(record)
                    done.append((record, step))
                    self.at = number
                if len(done) > CHECKPOINT_EVERY:
                    self.checkpoint()
            if self.generation != before:
                self.sweep()
        return done

    def checkpoint(self) -> None:
        """Within ``changing``: write the weights as they are now as a new generation, which the log names when the change is complete."""
        learner, generation = self.current(), self.generation + 1
        generations.write(self.folder, generation, self.at, learner.tensors())
        self.records.set_meta(generation=generation, last=self.at)
        self.generation, self.last = generation, self.at

    def become(self, learner: Learner, at: int) -> None:
        """Within ``changing``, after the records were changed: what the records that are left have taught, up to number ``at``."""
        self.learner, self.at = learner, at
        self.checkpoint()
        self.epoch += 1
        self.records.set_meta(epoch=self.epoch)

    def settle(self) -> None:
        """Have nothing to learn again at the next opening, and everything in its final place on the disk."""
        with self.lock:
            self.reading()
            if self.at != self.last:
                with self.changing():
                    self.checkpoint()
                self.sweep()
            self.records.settle()

    def sweep(self) -> None:
        """Remove what no longer counts."""
        with self.records.writing():
            generations.sweep(self.folder, int(self.records.meta()["generation"]))


def taught(config: MemoryConfig, width: int, records: Iterable[Record]) -> Learner:
    """A fresh learner after these records."""
    learner = Learner(config, width)
    for record in records:
        _learn(learner, record)
    return learner


def _learn(learner: Learner, record: Record) -> Step:
    return learner.observe(record.id, record.observed.key, record.observed.value, record.observed.learning_rate)


def _grid(data: bytes, rows: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.int8).reshape(rows, -1)
