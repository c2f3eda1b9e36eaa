"""Statements compiled once and given to the driver: describing them anew each time is most of what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Engine, Insert, Select

__all__ = ["Prepared", "ask", "prepare", "tell"]

_KEPT: WeakKeyDictionary[Engine, dict[int, Prepared]] = WeakKeyDictionary()


class Prepared:
    """A statement as the driver takes it."""

    def __init__(self, statement: Select[Any] | Insert, engine: Engine) -> None:
        compiled = statement.compile(engine)
        self.statement = statement
        self.text = str(compiled)
        self._defaults = compiled.params
        self._order = compiled.positiontup

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Return *values* in the driver's form: in order, or by name."""
        values = {**self._defaults, **values}
        return values if self._order is None else tuple([values[name] for name in self._order])

    def run(self, connection: Connection, *rows: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run it with the values of each of *rows*, and return what the driver answers, if it asks.

        Past SQLAlchemy's result, which describes each column anew each time: four fifths of a question.
        """
        cursor: Any = connection.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(self.text, self.bind(rows[0]))
            else:
                cursor.executemany(self.text, [self.bind(one) for one in rows])
            found: Sequence[Sequence[Any]] = cursor.fetchall() if cursor.description is not None else ()
            return found
        finally:
            cursor.close()


def prepare(statement: Select[Any] | Insert, engine: Engine) -> Prepared:
    """Return *statement*, one of a module's constants, compiled for the database of *engine*."""
    kept = _KEPT.get(engine)
    if kept is None:
        kept = _KEPT.setdefault(engine, {})
    found = kept.get(id(statement))
    if found is None:
        found = kept[id(statement)] = Prepared(statement, engine)
    return found


def ask(connection: Connection, statement: Select[Any], **values: object) -> Sequence[Sequence[Any]]:
    """Return all rows that answer *statement*, a module's constant, within the transaction of *connection*."""
    return prepare(statement, connection.engine).run(connection, values)


def tell(connection: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write *rows* with *statement*, a module's constant, within the transaction of *connection*."""
    if rows:
        prepare(statement, connection.engine).run(connection, *rows)
