"""Listeners in their table, and the lock that lets one process at a time deliver to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from mlc_registry.errors import ListenerExistsError
from mlc_registry.records import Listener
from mlc_registry.stores.tables import change, listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from mlc_registry.stores.reader import Reader

__all__ = ["SqlListeners"]

PENDING = select(func.count()).where(change.c.id > listener.c.position).scalar_subquery()
LISTENERS = select(listener.c.name, listener.c.url, listener.c.position, PENDING).order_by(listener.c.name)


class SqlListeners:
    """`Listeners` in a table; *lock* keeps others away by name for as long as its holder lives."""

    def __init__(
        self,
        reader: Reader,
        transaction: Callable[[], AbstractContextManager[Connection]],
        lock: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._reader = reader
        self._transaction = transaction
        self._lock = lock

    def add(self, name: str, url: str, *, position: int) -> None:
        """Keep a listener that has heard everything up to the line *position*.

        Raises:
            ListenerExistsError: If there is one of that name.
        """
        with self._transaction() as connection:
            there = connection.execute(select(listener.c.position).where(listener.c.name == name)).scalar()
            if there is not None:
                msg = (
                    f"there is a listener {name!r}, which has heard {there} lines; remove it first, or say another name"
                )
                raise ListenerExistsError(msg)
            connection.execute(insert(listener).values(name=name, url=url, position=position))

    def remove(self, name: str) -> bool:
        """Forget a listener; return whether it was there."""
        with self._transaction() as connection:
            return connection.execute(delete(listener).where(listener.c.name == name)).rowcount == 1

    def list_all(self) -> Sequence[Listener]:
        """Return all listeners by name."""
        rows = self._reader.ask(LISTENERS, {})
        return tuple(Listener(name=name, url=url, position=at, pending=count) for name, url, at, count in rows)

    def move(self, name: str, *, before: int, after: int) -> bool:
        """Move a listener's position from *before* to *after*; return False if it was not there."""
        there = (listener.c.name == name) & (listener.c.position == before)
        with self._transaction() as connection:
            return connection.execute(update(listener).where(there).values(position=after)).rowcount == 1

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Keep everybody else from delivering to a listener; whoever dies lets go.

        Raises:
            ListenerBusyError: If somebody else does.
        """
        return self._lock(name)
