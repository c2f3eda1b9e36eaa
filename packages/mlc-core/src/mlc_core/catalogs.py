"""The parts that can be had by name, our own and every plugin's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_hooks import Catalog

if TYPE_CHECKING:
    from mlc_core.protocols import RetentionPolicy, SaveStrategy, Serializer, Storage

__all__ = ["open_storage", "retention_policies", "save_strategies", "serializers", "storages"]

URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive


def save_strategies() -> Catalog[SaveStrategy]:
    """Return all answers to "when?"."""
    return Catalog("save strategy", hook="mlc_save_strategies", home="mlc_core")


def retention_policies() -> Catalog[RetentionPolicy]:
    """Return all answers to "what to keep?"."""
    return Catalog("retention policy", hook="mlc_retention_policies", home="mlc_core")


def storages() -> Catalog[Storage]:
    """Return all places for checkpoints, by URL scheme."""
    return Catalog("storage", hook="mlc_storages", home="mlc_core")


def serializers() -> Catalog[Serializer]:
    """Return all file formats for tensors."""
    return Catalog("serializer", hook="mlc_serializers", home="mlc_core")


def open_storage(place: str | Path) -> Storage:
    """Open *place*, a local directory or a URL, as the storage of one model's checkpoints.

    Raises:
        UnknownNameError: If no plugin offers the URL's scheme.
    """
    text = str(place)
    found = URL.match(text)
    if found is None:
        return storages().make("file", Path(text).absolute().as_uri())
    return storages().make(found["scheme"].lower(), text)
