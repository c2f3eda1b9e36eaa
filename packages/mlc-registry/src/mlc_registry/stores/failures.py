"""What SQLAlchemy raises, said in the registry's own words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mlc_registry.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

__all__ = ["failures"]


@contextmanager
def failures(engine: Engine) -> Iterator[None]:
    """Turn what *engine* or its driver raises into a `StoreError` that names the database."""
    try:
        yield
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        msg = f"the database {engine.url.render_as_string(hide_password=True)} failed: {cause}"
        raise StoreError(msg) from error
