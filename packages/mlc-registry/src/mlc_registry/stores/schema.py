"""Is the database the one that this version reads? If it is older, make it so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, column, inspect, select, table

from mlc_registry.errors import StoreError
from mlc_registry.stores.failures import name_database
from mlc_registry.stores.tables import HEAD, REVISION_TABLE, TABLES, change, version

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["migrate", "read_revision", "refuse_others", "upgrade"]

SHOWN = 8
"""Names of tables in a message."""
REVISION: Select[Any] = select(column("version_num")).select_from(table(REVISION_TABLE))


def read_revision(connection: Connection) -> str | None:
    """Return the revision of the database, or None if it holds no registry."""
    if not inspect(connection).has_table(REVISION_TABLE):  # asked first: a failure ends a transaction of PostgreSQL's
        return None
    found: str | None = connection.execute(REVISION).scalar()
    return found


def refuse_others(connection: Connection, said: str, *, among_others: bool = False) -> None:
    """Refuse a database that is there and holds no registry's revision, and leave it as it is.

    Args:
        connection: Leads to it.
        said: How the message begins.
        among_others: Whether a registry may be made beside the tables of others, and where there are none.

    Raises:
        StoreError: Says what it holds.
    """
    there = sorted(inspect(connection).get_table_names())
    ours = {*TABLES.tables, REVISION_TABLE}.intersection(there)
    way = "restore it from a copy of the registry"
    if {version.name, change.name} <= ours or REVISION_TABLE in ours:
        msg = f"{said}: its tables are there, and {REVISION_TABLE}, which tells their version, says nothing; {way}"
    elif among_others:
        return
    elif there:
        shown = ", ".join(there[:SHOWN]) + (", …" if len(there) > SHOWN else "")
        msg = f"{said}: it is the database of something else, with the tables {shown}; name another directory"
    else:
        msg = f"{said}: it is a database without any table; {way}, or remove it if nothing was ever published"
    raise StoreError(msg)


def migrate(engine: Engine) -> None:
    """Take the steps from what the database is to what this version reads, in one transaction.

    Raises:
        StoreError: If a newer version wrote it.
    """
    with engine.begin() as connection:
        if read_revision(connection) == HEAD:  # another process was first
            return
        upgrade(connection)


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Take the steps to *revision* within the transaction of *connection*.

    Raises:
        StoreError: If a newer version wrote the database.
    """
    from alembic import command  # a tenth of a second that a database of today never costs
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        found = read_revision(connection)
        place = name_database(connection.engine)
        msg = f"{place} was written by a newer mlc-registry (revision {found}); upgrade the package"
        raise StoreError(msg) from error
