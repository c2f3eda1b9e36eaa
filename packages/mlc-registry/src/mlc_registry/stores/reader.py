"""A connection held open for questions, and statements compiled once: most of the cost of a question is asking."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from mlc_registry.stores.failures import failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine, PoolProxiedConnection, Select

__all__ = ["Prepared", "Reader"]


class Prepared:
    """A statement as the driver takes it."""

    def __init__(self, statement: Select[Any], engine: Engine) -> None:
        compiled = statement.compile(engine)
        self.text = str(compiled)
        self._defaults = compiled.params
        self._order = compiled.positiontup

    def bind(self, values: dict[str, Any]) -> Any:
        """Return *values* in the driver's form: in order, or by name."""
        values = {**self._defaults, **values}
        return values if self._order is None else tuple([values[name] for name in self._order])


ONCE = "mlc_once"
"""In the `info` of a connection: it sees nothing that is written later, so the next question needs another."""


class Reader:
    """Answers questions on one connection; each answer is what is committed at that moment, by whomever.

    Threads take turns. A process that was forked gets a connection of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._prepared: dict[int, Prepared] = {}
        self._held: Connection | None = None
        self._process = os.getpid()
        self._inherited: Connection | None = None

    def prepare(self, statement: Select[Any]) -> Prepared:
        """Return *statement*, one of a module's constants, compiled for this database."""
        found = self._prepared.get(id(statement))
        if found is None:
            found = self._prepared[id(statement)] = Prepared(statement, self._engine)
        return found

    def ask(self, statement: Select[Any], values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Return all rows that answer *statement*, as the driver has them.

        Raises:
            StoreError: If the database fails; the next question tries again on a new connection.
        """
        return self.run(self.prepare(statement), values)

    def run(self, prepared: Prepared, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Return all rows that answer a statement that somebody else keeps.

        Raises:
            StoreError: As `ask`.
        """
        with self._lock, failures(self._engine):
            try:
                # Past SQLAlchemy's result, which describes each column anew each time: four fifths of a question.
                cursor = self._hold().cursor()
                try:
                    cursor.execute(prepared.text, prepared.bind(values))
                    return cursor.fetchall()
                finally:
                    cursor.close()
                    if self._held is not None and self._held.info.get(ONCE):
                        self._release()
            except BaseException:
                if self._held is not None:
                    self._held.invalidate()  # closed without a word: there may be nobody to say it to
                self._release()
                raise

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._lock:
            self._release()

    def _hold(self) -> PoolProxiedConnection:
        if self._process != os.getpid():
            # SQLite forbids a child even to close what it inherited: keep it, so that nothing collects it.
            self._inherited, self._held, self._process = self._held, None, os.getpid()
        if self._held is None:
            self._held = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._held.connection

    def _release(self) -> None:
        if self._held is not None and self._process == os.getpid():
            self._held.close()
            self._held = None
