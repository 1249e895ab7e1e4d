"""The log of a text memory: what it read, in SQLite. The weights are a function of it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from .errors import DamagedMemory, MemoryBusy, StorageFailed

FILE = "records.sqlite"
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, associate TEXT, time REAL NOT NULL, metadata TEXT NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, learning_rate REAL NOT NULL, surprise REAL NOT NULL, checksum BLOB NOT NULL
);
"""


Access = Literal["make", "write", "read"]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was observed, and how.

    Args:
        text: What was read.
        associate: What it is to recall; None recalls itself.
        time: When, in seconds since 1970.
        metadata: What the caller added, as JSON.
        key: The embedding of the text.
        value: That of the associate, or the text's own.
        learning_rate: Of its step.
    """

    text: str
    associate: str | None
    time: float
    metadata: str
    key: bytes
    value: bytes
    learning_rate: float


_OBSERVED = tuple(field.name for field in fields(Observed))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the log.

    Args:
        id: Its number; numbers rise, and none is given twice.
        observed: What was observed.
        surprise: How surprising it was.
    """

    id: int
    observed: Observed
    surprise: float

    @property
    def row(self) -> tuple[object, ...]:
        seen = self.observed
        plain = (self.id, seen.text, seen.associate, seen.time, seen.metadata, seen.key, seen.value, seen.learning_rate, self.surprise)
        return (*plain, _checksum(*plain))

    @staticmethod
    def of(row: tuple[Any, ...], path: Path) -> Record:
        """The record in a row, if the row is as it was written."""
        _check(row, path)
        number, *observed, surprise, _ = row
        return Record(id=number, observed=Observed(**dict(zip(_OBSERVED, observed, strict=True))), surprise=surprise)


def _checksum(
    number: int, text: str, associate: str | None, time: float, metadata: str, key: bytes, value: bytes, learning_rate: float, surprise: float
) -> bytes:
    other = None if associate is None else len(associate)
    head = f"{number} {len(text)} {other} {len(key)} {time!r} {learning_rate!r} {surprise!r} {text}{associate}{metadata}"
    digest = hashlib.blake2b(head.encode(), digest_size=8)
    digest.update(key)
    digest.update(value)
    return digest.digest()


def _check(row: tuple[Any, ...], path: Path) -> None:
    try:
        same = _checksum(*row[:-1]) == row[-1]
    except TypeError:
        same = False
    if not same:
        raise DamagedMemory(f"{path} has changed since it was written: the checksum of its record {row[0]} does not agree.")


class Records:
    """The log of one memory, open in one process; others may have it open, too, and only one writes at a time.

    Args:
        folder: Where it lies.
        timeout: Seconds to wait while another process writes.
        access: Whether to ``"make"`` it if there is none, to ``"write"`` to one that is there, or to ``"read"`` it. Where not even a reader may leave a
            lock, as on a file system that cannot be written to, what is read is a copy as of now.

    Raises:
        StorageFailed: The folder cannot be written to.
        MemoryBusy: Another process is writing.
        DamagedMemory: The file is no log any more.
        FileNotFoundError: There is none, and none is to be made.
    """

    def __init__(self, folder: Path, timeout: float, access: Access = "make") -> None:
        self.path, self._copied = folder / FILE, None
        if access != "make" and not self.path.is_file():
            raise FileNotFoundError(f"there is no memory in {folder}: it has no {FILE}.")
        with self._told():
            if access == "read":
                self._db = self._to_be_read(timeout)
                return
            self._db = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
                    self._db.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                self._db.close()
                raise

    def _to_be_read(self, timeout: float) -> sqlite3.Connection:
        try:
            return _reader(self.path, timeout)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
        self._copied = tempfile.TemporaryDirectory()
        for path in self.path.parent.glob(f"{FILE}*"):
            if path.name in (FILE, f"{FILE}-wal"):
                shutil.copyfile(path, Path(self._copied.name) / path.name)
        return _reader(Path(self._copied.name) / FILE, timeout)

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """All that is read within is as of one moment."""
        with self._told():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Generator[None, None, None]:
        """All that happens within happens together, or not at all; nobody else writes meanwhile."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                    for table in _TABLES.strip().split(";")[:-1]:
                        self._db.execute(table)
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @property
    def version(self) -> int:
        """A number that changes whenever another process has written."""
        with self._told():
            return self._db.execute("PRAGMA data_version").fetchone()[0]

    def meta(self) -> dict[str, str]:
        """What is written down about the memory; nothing if it was never finished."""
        with self._told():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                return {}
            return dict(self._db.execute("SELECT name, value FROM meta"))

    def set_meta(self, **values: object) -> None:
        with self._told():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, str(value)) for name, value in values.items()])

    def append(self, observed: Observed) -> int:
        """Give a line its number; ``finish`` writes what is known of it afterwards."""
        with self._told():
            row = Record(id=0, observed=observed, surprise=0.0).row
            number = self._db.execute(f"INSERT INTO records VALUES (NULL{', ?' * (len(row) - 1)})", row[1:]).lastrowid
            assert number is not None
            return number

    def finish(self, record: Record) -> None:
        with self._told():
            self._db.execute("UPDATE records SET surprise = ?, checksum = ? WHERE id = ?", (*record.row[-2:], record.id))

    def after(self, number: int = 0) -> Iterator[Record]:
        """The lines behind a number, in order."""
        with self._told():
            for row in self._db.execute("SELECT * FROM records WHERE id > ? ORDER BY id", (number,)):
                yield Record.of(row, self.path)

    def embeddings(self, last: int) -> tuple[list[int], bytes, bytes]:
        """The numbers of the lines up to one, and their keys and their values behind each other; each line is checked."""
        with self._told():
            numbers, keys, values = list[int](), list[bytes](), list[bytes]()
            for row in self._db.execute("SELECT * FROM records WHERE id <= ? ORDER BY id", (last,)):
                _check(row, self.path)
                numbers.append(row[0])
                keys.append(row[5])
                values.append(row[6])
            return numbers, b"".join(keys), b"".join(values)

    def of(self, number: int) -> Record | None:
        with self._told():
            row = self._db.execute("SELECT * FROM records WHERE id = ?", (number,)).fetchone()
            return None if row is None else Record.of(row, self.path)

    def texts(self, numbers: list[int]) -> list[tuple[str, str | None]]:
        """The texts with these numbers, in the order of these, and their associates."""
        with self._told():
            found = self._db.execute(f"SELECT id, text, associate FROM records WHERE id IN ({', '.join('?' * len(numbers))})", numbers)
            by_number = {number: (text, associate) for number, text, associate in found}
            return [by_number[number] for number in numbers]

    def remove(self, number: int | None = None) -> None:
        """Take one line out, or all; what it took is overwritten."""
        with self._told():
            self._db.execute("DELETE FROM records WHERE ? IS NULL OR id = ?", (number, number))

    def put(self, records: Iterable[Record]) -> None:
        """Lines as they are, with their numbers."""
        with self._told():
            for record in records:
                self._db.execute(f"INSERT INTO records VALUES (?{', ?' * (len(record.row) - 1)})", record.row)

    def copy_to(self, folder: Path) -> None:
        """Put a copy of what is committed into another folder; a connection cannot copy what it is about to write itself, so another does."""
        path = self.path if self._copied is None else Path(self._copied.name) / FILE
        with self._told(), closing(_reader(path, 0.0)) as committed, closing(sqlite3.connect(folder / FILE)) as other:
            committed.backup(other)

    def settle(self) -> None:
        """Bring what was written to its final place on the disk, so that it survives the loss of power, and nothing of what was removed is left."""
        with self._told():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._db.close()
        if self._copied is not None:
            self._copied.cleanup()

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        """SQLite's errors by what they mean."""
        try:
            yield
        except sqlite3.Error as error:
            said = str(error)
            if "locked" in said or "busy" in said:
                raise MemoryBusy(
                    f"{self.path} is being written to by another process. Cure: try again, or open the memory with a longer timeout."
                ) from None
            if isinstance(error, sqlite3.OperationalError) and any(word in said for word in ("full", "readonly", "unable to open", "disk I/O")):
                raise StorageFailed(
                    f"{self.path} cannot be written: {said}. Nothing was changed by this call, and what was acknowledged before is still there. "
                    "Cure: make room, or choose a folder that may be written to; a memory that is only asked can be opened with read_only=True."
                ) from None
            raise DamagedMemory(f"{self.path} is damaged, or no memory at all: {said}.") from None


def _reader(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection that writes nothing, and is known to read."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    db = sqlite3.connect(uri, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True)
    try:
        db.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error:
        db.close()
        raise
    return db
