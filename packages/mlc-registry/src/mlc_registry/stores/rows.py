"""Everything in the tables, as plain rows: out of one database and into another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, LargeBinary, Text, insert, select
from sqlalchemy.exc import IntegrityError

from mlc_registry.errors import ArchiveError, RegistryError
from mlc_registry.facts import check_facts
from mlc_registry.semver.versions import Version
from mlc_registry.stores import derived
from mlc_registry.stores.tables import change, file, listener, model, stage, tag, version
from mlc_registry.stores.verification import verify
from mlc_registry.tags import check_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Column, Connection, Table

    from mlc_registry.records import Audited, Row

__all__ = ["SqlRows"]

PAGE = 1000
TABLES = (model, version, file, stage, tag, change, listener)
"""In the order in which what a row refers to is there before it."""


class SqlRows:
    """`Rows` in tables."""

    def __init__(
        self,
        snapshot: Callable[[], AbstractContextManager[Connection]],
        transaction: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        self._snapshot = snapshot
        self._transaction = transaction

    @contextmanager
    def read(self) -> Iterator[Mapping[str, Iterator[Row]]]:
        """Return the rows of every table, as of one moment, in the order in which they can be written."""
        with self._snapshot() as connection:
            yield {table.name: _read(connection, table) for table in TABLES}

    def write(self, rows: Mapping[str, Sequence[Row]], *, head: str) -> Audited:
        """Write *rows* into a store that holds none, unless they do not fit together up to the line with digest *head*.

        Raises:
            ArchiveError: If there is something in it, or a row does not fit its table.
            AuditError: If the rows do not fit each other.
        """
        prepared = {table: [_prepare(table, row) for row in rows[table.name]] for table in TABLES}
        with self._transaction() as connection:
            for table in TABLES:
                if connection.execute(select(table).limit(1)).first() is not None:
                    msg = f"the registry is not empty: there is a {table.name}; import into a new one"
                    raise ArchiveError(msg)
                _write(connection, table, prepared[table])
            derived.rebuild(connection)
            return verify(connection, expected_head=head)


def _read(connection: Connection, table: Table) -> Iterator[Row]:
    # The key itself is what versions are sorted by; it is computed anew from the text.
    columns = [one for one in table.c if not isinstance(one.type, LargeBinary)]
    asked = select(*columns).order_by(*table.primary_key)
    names = [str(one.name) for one in columns]  # plain ones, as JSON wants them
    for row in connection.execute(asked):
        yield dict(zip(names, row, strict=True))


def _write(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    try:
        for start in range(0, len(rows), PAGE):
            connection.execute(insert(table), rows[start : start + PAGE])
    except IntegrityError as error:
        msg = f"the rows of {table.name} do not fit together: {str(error.orig).strip()}"
        raise ArchiveError(msg) from error


def _prepare(table: Table, row: Row) -> dict[str, Any]:
    columns = {one.name: one for one in table.c if not isinstance(one.type, LargeBinary)}
    wrong = sorted(columns.keys() ^ row.keys()) or [name for name, one in columns.items() if not _fits(row[name], one)]
    if wrong:
        msg = f"a row of {table.name} is not as it should be: {', '.join(wrong)}"
        raise ArchiveError(msg)
    try:
        if table is tag:
            check_tag(row["key"], row["value"])
        if table is not version:
            return dict(row)
        number = Version.parse(str(row["version"]))
        check_facts(str(row["facts"]))
    except RegistryError as error:
        msg = f"a row of {table.name} is not as it should be: {error}"
        raise ArchiveError(msg) from error
    return {**row, "sort_key": number.key, "prerelease": number.is_prerelease}


def _fits(value: object, column: Column[Any]) -> bool:
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Boolean):
        return isinstance(value, bool)
    if isinstance(column.type, Text):
        return isinstance(value, str) and "\0" not in value  # which PostgreSQL cannot keep
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
