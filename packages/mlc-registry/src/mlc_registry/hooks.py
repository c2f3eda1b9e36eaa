"""What mlc-registry offers, through the same door as everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

    from mlc_registry.protocols import Store


@hookimpl
def mlc_registry_stores() -> Mapping[str, Callable[..., Store]]:
    """Offer SQLite and PostgreSQL."""
    return {"sqlite": open_sqlite, "postgresql": open_postgresql}


@hookimpl
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:
    """Offer `mlc registry`."""
    return {"registry": registry_command}


def open_sqlite(url: str, *, create: bool) -> Store:
    """Keep the facts in one SQLite file, as in sqlite:///registry.db."""
    from mlc_registry.stores.sqlite import open_url  # SQLAlchemy takes a quarter of a second to load

    return open_url(url, create=create)


def open_postgresql(url: str, *, create: bool) -> Store:
    """Keep the facts in a PostgreSQL database, as in postgresql://user@host/database. Needs `[postgresql]`."""
    from mlc_registry.stores.postgresql import open_url

    return open_url(url, create=create)


def registry_command() -> click.Command:
    """Publish versions of models, find them, promote them."""
    from mlc_registry.commands import registry

    return registry
