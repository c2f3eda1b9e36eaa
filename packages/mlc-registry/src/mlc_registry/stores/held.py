"""A connection that is held open, as opening one costs more than most of what it is opened for."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from mlc_registry.stores.failures import failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

__all__ = ["Held", "Writer"]


class Held:
    """A connection that is opened when it is asked for. A process that was forked gets one of its own."""

    def __init__(self, engine: Engine, *, autocommit: bool = False) -> None:
        self._engine = engine
        self._options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
        self._connection: Connection | None = None
        self._process = os.getpid()
        self._inherited: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether this process has it open."""
        return self._connection is not None and self._process == os.getpid()

    def take(self) -> Connection:
        """Return it, opened if need be."""
        if self._process != os.getpid():
            # SQLite forbids a child even to close what it inherited: keep it, so that nothing collects it.
            self._inherited, self._connection, self._process = self._connection, None, os.getpid()
        if self._connection is None:
            connection = self._engine.connect()
            self._connection = connection.execution_options(**self._options) if self._options else connection
        return self._connection

    def release(self) -> None:
        """Close it."""
        if self._connection is not None and self._process == os.getpid():
            self._connection.close()
            self._connection = None

    def drop(self) -> None:
        """Close it without a word: there may be nobody to say it to. What was not committed is gone."""
        if self.is_open and self._connection is not None:
            self._connection.invalidate()
            self.release()


class Writer:
    """Runs transactions, one at a time, on one connection; the next goes on another if anything fails.

    *is_current* says whether a connection still leads to the database: files can be put in the place of others.
    """

    def __init__(self, engine: Engine, is_current: Callable[[Connection], bool]) -> None:
        self._engine = engine
        self._held = Held(engine)
        self._is_current = is_current
        self._lock = threading.Lock()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run a transaction until the context ends: all of it is there then, durably, or nothing if it raises.

        Raises:
            StoreError: If the database fails.
        """
        with self._lock, failures(self._engine):
            try:
                connection = self._begin()
                yield connection
                connection.commit()
            except BaseException:
                self._held.drop()
                raise

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with self._lock:
            self._held.release()

    def _begin(self) -> Connection:
        if self._held.is_open and not self._is_current(self._held.take()):
            self._held.drop()
        if self._held.is_open:
            try:
                connection = self._held.take()
                connection.begin()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._held.drop()  # the server has gone and come back, and nothing was begun
            else:
                return connection
        connection = self._held.take()
        connection.begin()
        return connection
