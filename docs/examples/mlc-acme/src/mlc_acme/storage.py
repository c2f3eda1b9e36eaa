"""Where to keep checkpoints: in one SQLite file, where a commit is a transaction."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlc_core import Capabilities, EntryExistsError, StorageError, check_name
from mlc_core.storage.hashing import Hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Buffer = bytes | bytearray | memoryview

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (model TEXT, name TEXT, token TEXT, PRIMARY KEY (model, name));
CREATE TABLE IF NOT EXISTS files (model TEXT, entry TEXT, name TEXT, content BLOB, PRIMARY KEY (model, entry, name));
CREATE TABLE IF NOT EXISTS pointers (model TEXT, name TEXT, entry TEXT, PRIMARY KEY (model, name));
CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, model TEXT, line BLOB);
"""


class SqliteStorage:
    """The checkpoints of one model in a SQLite file.

    Args:
        url: `sqlite:///path/to/file.db/model`: the last part names the model, what is before it the file.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._file, _, self._model = unquote(urlsplit(self.url).path).rpartition("/")
        with self._connect() as database:
            database.executescript(SCHEMA)

    @property
    def capabilities(self) -> Capabilities:
        """SQLite syncs what it commits, and lets one writer in at a time."""
        return Capabilities(durable=True, shared=True)

    def entries(self) -> Mapping[str, str]:
        """Return the names and tokens of what was committed."""
        with self._connect() as database:
            return dict(database.execute("SELECT name, token FROM entries WHERE model = ?", [self._model]))

    def read(self, entry: str, file: str) -> memoryview:
        """Return a copy of *file*."""
        question = "SELECT content FROM files WHERE model = ? AND entry = ? AND name = ?"
        with self._connect() as database:
            found = database.execute(question, [self._model, check_name(entry), check_name(file)]).fetchone()
        if found is None:
            msg = f"{self.location(entry)}/{file} is not there"
            raise FileNotFoundError(msg)
        return memoryview(bytearray(found[0]))

    def stage(self, size: int) -> SqliteStaging:
        """Begin a checkpoint."""
        return SqliteStaging(self)

    def publish(self, entry: str, files: Mapping[str, bytes]) -> None:
        """Write *files* as *entry*, in one transaction."""
        rows = [(self._model, entry, name, content) for name, content in files.items()]
        try:
            with self._connect() as database:
                database.execute(
                    "INSERT INTO entries VALUES (?, ?, ?)", [self._model, check_name(entry), uuid.uuid4().hex]
                )
                database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError as error:
            msg = f"{self.location(entry)} is there already; a checkpoint is never overwritten"
            raise EntryExistsError(msg) from error

    def remove(self, entry: str) -> None:
        """Remove *entry*, in one transaction."""
        with self._connect() as database:
            database.execute("DELETE FROM entries WHERE model = ? AND name = ?", [self._model, check_name(entry)])
            database.execute("DELETE FROM files WHERE model = ? AND entry = ?", [self._model, entry])

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other writers out with a lock on a file of its own: SQLite's is taken and freed within a commit."""
        with self._connect(f"{self._file}.lock") as database:
            database.execute("BEGIN EXCLUSIVE")
            yield

    def pointers(self) -> Mapping[str, str]:
        """Return the pointers."""
        with self._connect() as database:
            return dict(database.execute("SELECT name, entry FROM pointers WHERE model = ?", [self._model]))

    def point(self, pointer: str, entry: str | None) -> None:
        """Set or remove *pointer*."""
        with self._connect() as database:
            database.execute("DELETE FROM pointers WHERE model = ? AND name = ?", [self._model, check_name(pointer)])
            if entry is not None:
                database.execute("INSERT INTO pointers VALUES (?, ?, ?)", [self._model, pointer, check_name(entry)])

    def location(self, entry: str) -> str:
        """Return the URL of *entry*."""
        return f"{self.url}/{entry}"

    def sweep(self) -> Sequence[str]:
        """Find nothing: a transaction that was not committed leaves nothing."""
        return ()

    def set_aside(self, entry: str) -> str:
        """Give *entry* and its files to a model of another name, in one transaction."""
        place = f"{check_name(entry)}-{uuid.uuid4().hex[:8]}"
        quarantine = f"{self._model}.quarantine"
        with self._connect() as database:
            moved = database.execute(
                "UPDATE entries SET model = ?, name = ? WHERE model = ? AND name = ?",
                [quarantine, place, self._model, entry],
            )
            database.execute(
                "UPDATE files SET model = ?, entry = ? WHERE model = ? AND entry = ?",
                [quarantine, place, self._model, entry],
            )
        if moved.rowcount == 0:
            msg = f"{self.location(entry)} is not there"
            raise FileNotFoundError(msg)
        return f"{self.url}.quarantine/{place}"  # a storage like any other: it can be listed, opened and verified

    def note(self, line: bytes) -> None:
        """Append *line*."""
        with self._connect() as database:
            database.execute("INSERT INTO notes (model, line) VALUES (?, ?)", [self._model, line])

    def notes(self, last: int | None = None) -> Sequence[bytes]:
        """Return the lines, or the *last* ones."""
        with self._connect() as database:
            newest_first = "SELECT line FROM notes WHERE model = ? ORDER BY number DESC LIMIT ?"
            rows = database.execute(newest_first, [self._model, -1 if last is None else last])
            return [line for (line,) in rows][::-1]

    @contextmanager
    def _connect(self, file: str | None = None) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(file or self._file, timeout=60)) as database, database:
                yield database
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            msg = f"{self.url}: {error}"
            raise StorageError(msg) from error


class SqliteStaging:
    """Files that wait for their transaction."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self._files: dict[str, bytes] = {}

    def write(self, file: str, size: int, pieces: Iterable[Buffer]) -> str:
        """Keep *file* and return its digest; it becomes durable with the commit."""
        hashed = Hashed(pieces, size, check_name(file))
        self._files[file] = b"".join(bytes(piece) for piece in hashed)
        return hashed.digest

    def commit(self, entry: str, manifest: bytes) -> None:
        """Write everything in one transaction."""
        self._storage.publish(entry, {**self._files, "manifest.json": manifest})

    def discard(self) -> None:
        """Forget the files."""
        self._files = {}
