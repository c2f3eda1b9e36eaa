"""SQLite: one file, readers that never wait, writers one after the other, and every commit on disk."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import sqlite3
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from mlc_registry.artifacts.local import ARTIFACTS, OWNERS
from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import ListenerBusyError, RegistryNotFoundError, StoreError
from mlc_registry.stores.failures import busy, failures
from mlc_registry.stores.reader import ONCE
from mlc_registry.stores.schema import migrate, read_revision, refuse_others
from mlc_registry.stores.sql import SqlStore
from mlc_registry.stores.tables import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

__all__ = ["open_file", "open_url"]

PATIENCE = 30.0
"""Seconds that a writer waits for another."""
SHORTEST, LONGEST = 0.0005, 0.004
"""Seconds between two looks whether the other has finished."""
FILE = "mlc_file"
"""In the `info` of a connection: which file it has open."""


class _FrozenConnection(sqlite3.Connection):
    """Reads a file that nobody is writing, where nothing can be written."""


def open_url(url: str, *, create: bool) -> SqlStore:
    """Open the database that *url* names, as in `sqlite:///relative.db` or `sqlite:////absolute.db`.

    Raises:
        StoreError: If it names no file; and as `open_file`.
    """
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        parts = URL.create("sqlite")
    if not parts.database or parts.database == ":memory:" or parts.host or parts.query:
        msg = f"{url!r} names no file; write sqlite:///registry.db, or sqlite:////data/registry.db for an absolute path"
        raise StoreError(msg)
    return open_file(Path(parts.database), create=create)


def open_file(path: Path, *, create: bool) -> SqlStore:
    """Open the database in the file *path*, made or brought up to date if need be.

    Raises:
        RegistryNotFoundError: If there is none and *create* is false.
        StoreError: If it cannot be opened, was written by a newer version, or is something else, which stays as it is;
            or if it is to be made where the files of a registry lie that has lost its database.
    """
    path = path.absolute()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        msg = f"the registry {str(path.parent)!r} cannot be opened: {getattr(error, 'strerror', None) or error}"
        raise StoreError(msg) from error
    if not path.exists():
        if not create:
            raise RegistryNotFoundError(_explain_absence(path))
        _refuse_orphans(path)
        _make(path)
    _refuse_empty(path)
    engine = _make_engine(path)
    with failures(engine):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            revision = read_revision(connection)
            if revision is None:
                refuse_others(connection, f"{path} is no registry")
        if revision != HEAD:
            migrate(engine)
            sync_directory(path.parent)
    return SqlStore(engine, home=path.parent, lock=partial(_lock, path), is_current=partial(_is_current, path))


def _make_engine(path: Path) -> Engine:
    # No pool: a writer is rare enough to open its own connection, and nothing is left over to be closed.
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": PATIENCE, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def choose(_: object, __: object, ___: object, options: dict[str, Any]) -> sqlite3.Connection | None:
        if not _is_frozen(path):
            return None  # as SQLAlchemy would
        url = f"{path.as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(url, uri=True, factory=_FrozenConnection, **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        record.info[ONCE], record.info[FILE] = isinstance(connection, _FrozenConnection), _identify(path)
        connection.isolation_level = None  # or the driver decides when a transaction starts
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a published version survives a power cut

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("mlc_snapshot"):
            connection.exec_driver_sql("BEGIN")
        elif options.get("isolation_level") != "AUTOCOMMIT":
            _begin(connection.connection.driver_connection)

    return engine


def _begin(connection: Any) -> None:
    """Begin to write, as soon as nobody else does.

    SQLite's own way to wait sleeps for longer each time, up to a tenth of a second, while writers take less than one
    thousandth. A plain BEGIN that reads first and writes later fails at once when another process wrote in between.
    """
    deadline, pause = time.monotonic() + PATIENCE, SHORTEST
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - so that they do not come back together
                pause = min(2 * pause, LONGEST)
            else:
                return
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}")
        cursor.close()


def _identify(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at *path* from one that is put in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_current(path: Path, connection: Connection) -> bool:
    """Say whether *connection* has the file at *path* open, and not one that was there before."""
    return connection.info.get(FILE) == _identify(path) is not None


def _is_frozen(path: Path) -> bool:
    """Say whether nothing can be written beside the database *path*, as SQLite has to for a reader, nor is there."""
    if not path.exists() or all(os.access(one, os.W_OK, effective_ids=True) for one in (path, path.parent)):
        return False
    log, index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
    return not log.exists() or (log.stat().st_size == 0 and not index.exists())


def _make(path: Path) -> None:
    """Make an empty registry, whole and durable before it has its name: who is killed leaves none, and not half of one.

    Raises:
        StoreError: If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_directory(path.parent.parent)
        target = path.resolve()  # where a link leads that leads to nothing yet
        with _alone(target.parent):
            if target.exists():  # another process was first
                return
            fresh = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
            try:
                engine = _make_engine(fresh)
                with failures(engine):
                    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                        # Readers and a writer do not wait for each other; the file remembers it.
                        connection.exec_driver_sql("PRAGMA journal_mode = WAL").fetchall()
                    migrate(engine)
                fresh.rename(target)
            finally:
                for end in ("", "-wal", "-shm"):
                    fresh.with_name(f"{fresh.name}{end}").unlink(missing_ok=True)
            sync_directory(target.parent)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        msg = f"the registry {path.parent} cannot be made: {error.strerror or error}"
        raise StoreError(msg) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make a registry in *folder*.

    Raises:
        StoreError: If another is at it for too long.
    """
    deadline = time.monotonic() + PATIENCE
    handle = os.open(folder, os.O_RDONLY)
    try:
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                msg = f"somebody else has been making a registry in {folder} for more than {PATIENCE:g} seconds"
                raise StoreError(msg)
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, on which a database must not lie anyway
        return True
    return True


def _refuse_orphans(path: Path) -> None:
    """Refuse to make the database *path* anew beside the files of a registry that has lost its own.

    Raises:
        StoreError: If there are any.
    """
    marks = path.parent / ARTIFACTS / OWNERS
    if marks.is_dir() and any(marks.iterdir()):
        msg = (
            f"{path.parent} has lost its database: {path.name} is missing, and {marks.parent} holds the files of a "
            f"registry. Restore {path.name} from a copy, or import an export into another directory; an empty one in "
            "its place would not know what is published"
        )
        raise StoreError(msg)


def _refuse_empty(path: Path) -> None:
    """Refuse a file that holds nothing: SQLite would take it for a new database.

    Raises:
        StoreError: If *path* is one.
    """
    if path.is_file() and not path.stat().st_size:
        msg = (
            f"{path} is no registry: it is empty (0 bytes), as after a copy that failed. Restore it from a copy of the "
            "registry; if nothing was ever published, remove it, and registering a model makes a new one"
        )
        raise StoreError(msg)


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """Hold a file beside the database *path*, which the system lets go of with the process."""
    try:
        handle = os.open(path.with_name(f"{path.name}-outbox-{name}"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        msg = f"the lock of the listener {name!r} cannot be made beside {path}: {error.strerror or error}"
        raise StoreError(msg) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ListenerBusyError(busy(name)) from error
        yield
    finally:
        os.close(handle)


def _explain_absence(path: Path) -> str:
    way = "registering a model makes one, and commands take --registry DIR"
    return f"there is no registry in {path.parent}: {path.name} is missing; {way}"
