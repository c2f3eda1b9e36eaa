"""Questions on a connection that is held open: most of the cost of a question is asking."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mlc_registry.stores.failures import failures
from mlc_registry.stores.held import Held
from mlc_registry.stores.prepared import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine, Select

    from mlc_registry.stores.prepared import Prepared

__all__ = ["ONCE", "Reader"]

ONCE = "mlc_once"
"""In the `info` of a connection: it sees nothing that is written later, so the next question needs another."""


class Reader:
    """Answers questions on one connection; each answer is what is committed at that moment, by whomever.

    Threads take turns. A process that was forked gets a connection of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._held = Held(engine, autocommit=True)

    def ask(self, statement: Select[Any], values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Return all rows that answer *statement*, one of a module's constants, as the driver has them.

        Raises:
            StoreError: If the database fails; the next question tries again on a new connection.
        """
        return self.run(prepare(statement, self._engine), values)

    def run(self, prepared: Prepared, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Return all rows that answer a statement that somebody else keeps.

        Raises:
            StoreError: As `ask`.
        """
        with self._lock, failures(self._engine):
            try:
                connection = self._held.take()
                try:
                    return prepared.run(connection, values)
                finally:
                    if connection.info.get(ONCE):
                        self._held.release()
            except BaseException:
                self._held.drop()
                raise

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._lock:
            self._held.release()
