"""From what a person types to the checkpoints that are meant: a path, a link, or a URL."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mlc_core.catalogs import open_storage
from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, StorageError
from mlc_core.naming import MANIFEST
from mlc_core.storage import LocalStorage, local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.protocols import Storage

__all__ = ["Chosen", "choose", "choose_local", "choose_one", "local_storages", "only_local", "open_storages"]

DEEPEST = 4  # runs/run/checkpoints/model


@attrs.frozen
class Chosen:
    """Checkpoints of one model: all of them, or the one called *name*."""

    storage: Storage
    name: str | None = None


def choose(place: str) -> Sequence[Chosen]:
    """Return what *place* means: one checkpoint, or all at or below a directory.

    Raises:
        CheckpointNotFoundError: If there are none.
    """
    one = _find_one(place)
    return [one] if one is not None else [Chosen(storage) for storage in open_storages(place)]


def choose_one(place: str) -> tuple[Storage, str]:
    """Return where the one checkpoint lies that *place* means, and its name. Its manifest may be damaged.

    Raises:
        CheckpointNotFoundError: If it is none.
    """
    one = _find_one(place)
    if one is None or one.name is None:
        msg = f"{place} is not a checkpoint: there is no {MANIFEST}. `mlc checkpoints ls` lists those that there are"
        raise CheckpointNotFoundError(msg)
    if str(one.storage.location("")).endswith(f"/{local.QUARANTINE}"):
        msg = f"{place} is in quarantine; `mlc checkpoints restore {place}` puts it back"
        raise ConfigurationError(msg)
    return one.storage, one.name


def choose_local(place: str) -> Sequence[tuple[LocalStorage, str | None]]:
    """Return what *place* means among plain files, as `choose`: checkpoints of one model, or one of them by name.

    Raises:
        CheckpointNotFoundError: If there is nothing, not even leftovers.
        ConfigurationError: If it is a URL of something else than files, or in quarantine.
    """
    path = only_local(place)
    if not _is_checkpoint(path):
        return [(storage, None) for storage in local_storages(place, own=True)]
    _, name = choose_one(place)
    return [(LocalStorage(Path(os.path.realpath(path)).parent), name)]


def _find_one(place: str) -> Chosen | None:
    if "://" not in place:
        path = Path(os.path.realpath(place))  # a link is what it leads to
        return Chosen(LocalStorage(path.parent), path.name) if _is_checkpoint(path) else None
    parent, _, name = place.rstrip("/").rpartition("/")
    with suppress(FileNotFoundError, StorageError, ConfigurationError):
        storage = open_storage(parent)
        name = storage.pointers().get(name, name)
        storage.read(name, MANIFEST)
        return Chosen(storage, name)
    return None


def open_storages(place: str, *, own: bool = False) -> Sequence[Storage]:
    """Return the places of models at or below *place* that hold checkpoints, sorted.

    Args:
        place: A directory, or the URL of one model's checkpoints.
        own: Find also those where nothing but leftovers, a quarantine or a history is left.

    Raises:
        CheckpointNotFoundError: If there are none, no such directory, or it is one checkpoint.
    """
    if "://" in place and not place.startswith("file://"):
        return [open_storage(place)]
    return local_storages(place, own=own)


def local_storages(place: str, *, own: bool = False) -> Sequence[LocalStorage]:
    """Return the directories of models at or below *place*, as `open_storages`.

    Raises:
        CheckpointNotFoundError: As `open_storages`.
        ConfigurationError: If *place* is a URL of something else than files.
    """
    path = only_local(place)
    if _is_checkpoint(path):
        msg = f"{place} is one checkpoint; `mlc checkpoints show {place}` shows it"
        raise CheckpointNotFoundError(msg)
    if not path.is_dir():
        msg = f"{place} is not a directory; name a run, a directory of checkpoints, or one checkpoint"
        raise CheckpointNotFoundError(msg)
    found = sorted(set(_models(path, DEEPEST, own=own)))
    if not found:
        msg = f"no checkpoints in {place}; training saves the first one at the end of the first epoch"
        raise CheckpointNotFoundError(msg)
    return [LocalStorage(directory) for directory in found]


def only_local(place: str) -> Path:
    """Return *place* as a path.

    Raises:
        ConfigurationError: If it is a URL of something else than files.
    """
    if place.startswith("file://"):
        return LocalStorage.from_url(place).location("")
    if "://" in place:
        msg = f"{place} holds no plain files, and this command works on files; copy the checkpoints to a directory"
        raise ConfigurationError(msg)
    return Path(place)


def _is_checkpoint(path: Path) -> bool:
    try:
        return (path / MANIFEST).is_file()
    except OSError:
        return False  # what may not be looked into is not listed


def _models(path: Path, depth: int, *, own: bool) -> Sequence[Path]:
    children: list[str] = []
    with suppress(PermissionError), os.scandir(path) as scan:  # it knows what is a directory without asking for each
        children += [one.name for one in scan if one.is_dir(follow_symlinks=False)]
    shown = [path / name for name in children if name[0] != "."]
    if any(_is_checkpoint(one) for one in shown) or (own and local.OWN in children):
        return [path]
    return [] if depth == 0 else [found for child in shown for found in _models(child, depth - 1, own=own)]
