"""PostgreSQL: many hosts, writers one after the other, and every commit on disk."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from mlc_registry.errors import ListenerBusyError, RegistryNotFoundError, StoreError
from mlc_registry.history.addresses import hide_secrets
from mlc_registry.stores.failures import busy, failures, name_database
from mlc_registry.stores.schema import migrate, read_revision, refuse_others
from mlc_registry.stores.sql import SqlStore
from mlc_registry.stores.tables import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

__all__ = ["open_url"]

PATIENCE = 30.0
"""Seconds that a writer waits for another."""
SETTINGS = {  # unless the URL says otherwise: who is gone is noticed in half a minute, not in two hours
    "application_name": "mlc-registry",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
PREPARE = """
SELECT set_config('lock_timeout', %(patience)s, true),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
"""
# An advisory lock, as there is no row or table to lock before the first migration, and it is in nobody's way: neither
# in that of pg_dump, nor of vacuuming, nor of another registry in another schema. It ends with the transaction.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('mlc-registry'), hashtext(current_schema()))"
HOLD = "SELECT pg_try_advisory_lock(hashtext(%(name)s), hashtext(current_schema()))"
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


def open_url(url: str, *, create: bool) -> SqlStore:
    """Open the database that *url* names, as in `postgresql://user@host/database`; it must be there.

    The tables go to the first schema of the connection's search path.

    Raises:
        RegistryNotFoundError: If it holds no registry and *create* is false.
        StoreError: If it cannot be reached, was written by a newer version, or the driver is not installed.
    """
    engine = _make_engine(_read_url(url))
    with failures(engine):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            revision = read_revision(connection)
            if revision is None:
                refuse_others(connection, f"{name_database(engine)} holds no registry", among_others=True)
        if revision is None and not create:
            way = "registering a model makes one, and commands take --registry URL"
            msg = f"there is no registry in {name_database(engine)}; {way}"
            raise RegistryNotFoundError(msg)
        if revision != HEAD:
            migrate(engine)
    return SqlStore(engine, home=None, lock=partial(_lock, engine))


@contextmanager
def _lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold an advisory lock on a connection of its own, which the server lets go of with the connection."""
    with failures(engine), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.exec_driver_sql(HOLD, {"name": f"mlc-registry outbox {name}"}).scalar():
            raise ListenerBusyError(busy(name))
        try:
            yield
        finally:
            connection.invalidate()  # closed, and the lock with it; a connection that was lost says nothing


def _read_url(url: str) -> URL:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        parts = None
    if parts is None or not parts.database or "@" in parts.database:
        way = "write postgresql://user@host/database, with special characters of a password percent-encoded"
        msg = f"{hide_secrets(url)!r} names no database; {way}"
        raise StoreError(msg) from None  # the cause may spell the password
    return parts.set(drivername="postgresql+psycopg")


def _make_engine(url: URL) -> Engine:
    settings = {name: value for name, value in SETTINGS.items() if name not in url.query}
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=settings)
    except ImportError as error:
        msg = (
            f"PostgreSQL needs a driver, which cannot be loaded ({error}); "
            'install it with: pip install "mlc-registry[postgresql]"'
        )
        raise StoreError(msg) from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("mlc_snapshot"):
            connection.exec_driver_sql(SNAPSHOT)
        elif options.get("isolation_level") != "AUTOCOMMIT":
            # Whatever the server's default is: only this level looks anew once the lock is there.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
            connection.exec_driver_sql(PREPARE, {"patience": f"{int(PATIENCE * 1000)}ms"})
            connection.exec_driver_sql(LOCK)

    return engine
