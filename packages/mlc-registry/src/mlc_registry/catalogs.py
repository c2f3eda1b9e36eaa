"""The databases that can be had by URL scheme, and the checks by name: our own and every plugin's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_hooks import Catalog
from mlc_registry.errors import StoreError
from mlc_registry.history.addresses import hide_secrets

if TYPE_CHECKING:
    import os

    from mlc_registry.protocols import ArtifactStore, PromotionCheck, Store

__all__ = ["open_artifacts", "open_store", "promotion_checks", "registry_stores"]

URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive
DATABASE = "registry.db"


def promotion_checks() -> Catalog[PromotionCheck]:
    """Return all checks that a policy of stages can ask for, by name."""
    return Catalog("promotion check", hook="mlc_promotion_checks", home="mlc_registry")


def registry_stores() -> Catalog[Store]:
    """Return all databases, by URL scheme."""
    return Catalog("registry store", hook="mlc_registry_stores", home="mlc_registry")


def open_artifacts(place: str | os.PathLike[str]) -> ArtifactStore:
    """Open *place*: a directory, or the URL of a storage of mlc-core, our own or any plugin's.

    Raises:
        UnknownNameError: If no plugin offers the URL's scheme.
        StoreError: If mlc-core is not installed.
    """
    text = str(place)
    if URL.match(text) is None:
        from mlc_registry.artifacts.local import Artifacts

        return Artifacts(Path(text).absolute())
    if importlib.util.find_spec("mlc_core") is None:
        msg = f"{hide_secrets(text)} needs mlc-core, which is not installed: pip install 'mlc-registry[storages]'"
        raise StoreError(msg)
    from mlc_registry.artifacts.storages import StorageArtifacts

    return StorageArtifacts.open(text)


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
