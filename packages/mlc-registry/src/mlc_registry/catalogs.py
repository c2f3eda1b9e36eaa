"""The databases that can be had by URL scheme, our own and every plugin's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_hooks import Catalog

if TYPE_CHECKING:
    import os

    from mlc_registry.protocols import Store

__all__ = ["open_store", "registry_stores"]

URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive
DATABASE = "registry.db"


def registry_stores() -> Catalog[Store]:
    """Return all databases, by URL scheme."""
    return Catalog("registry store", hook="mlc_registry_stores", home="mlc_registry")


def open_store(root: str | os.PathLike[str], *, create: bool) -> Store:
    """Open *root*: the database that a URL names, or `registry.db` in a directory.

    Raises:
        UnknownNameError: If no plugin offers the URL's scheme.
        RegistryNotFoundError: If there is no registry and *create* is false.
        StoreError: If the database cannot be opened.
    """
    text = str(root)
    found = URL.match(text)
    if found is not None:
        return registry_stores().make(found["scheme"].lower(), text, create=create)
    from mlc_registry.stores.sqlite import open_file  # a path may hold what a URL may not, so it does not become one

    return open_file(Path(root) / DATABASE, create=create)
