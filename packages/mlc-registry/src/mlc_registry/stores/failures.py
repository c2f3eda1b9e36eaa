"""What SQLAlchemy raises, said in the registry's own words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mlc_registry.errors import StoreError
from mlc_registry.history.addresses import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

__all__ = ["busy", "failures", "name_database"]


@contextmanager
def failures(engine: Engine) -> Iterator[None]:
    """Turn what *engine* or its driver raises into a `StoreError` that names the database."""
    try:
        yield
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error, UnicodeEncodeError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        msg = f"the database {name_database(engine)} failed: {str(cause).strip()}"
        raise StoreError(msg) from error


def name_database(engine: Engine) -> str:
    """Return the address of the database, without secrets."""
    url = engine.url.set(query={}, drivername=engine.url.get_backend_name())  # as it was written
    return hide_secrets(url.render_as_string(hide_password=True))


def busy(name: str) -> str:
    """Return what to say if somebody else is delivering to the listener *name*."""
    return f"somebody else is delivering to the listener {name!r} at this moment; wait for them, or end them"
