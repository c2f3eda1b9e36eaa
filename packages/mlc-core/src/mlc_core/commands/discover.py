"""From a path that a person types to the checkpoints that are meant."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlc_core.errors import CheckpointNotFoundError
from mlc_core.naming import MANIFEST
from mlc_core.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["is_checkpoint", "model_storages"]

DEEPEST = 3  # run/checkpoints/model


def is_checkpoint(path: Path) -> bool:
    """Say whether *path* is one checkpoint."""
    try:
        return (path / MANIFEST).is_file()
    except OSError:
        return False  # what may not be looked into is not listed


def model_storages(path: Path) -> Sequence[LocalStorage]:
    """Return the directories of models at or below *path* that hold checkpoints, sorted.

    Raises:
        CheckpointNotFoundError: If there are none, or no such directory.
    """
    if is_checkpoint(path):
        msg = f"{path} is one checkpoint; `mlc checkpoints show {path}` shows it"
        raise CheckpointNotFoundError(msg)
    if not path.is_dir():
        msg = f"{path} is not a directory; name a run, a directory of checkpoints, or one checkpoint"
        raise CheckpointNotFoundError(msg)
    found = sorted({entry.parent for entry in _checkpoints(path, DEEPEST)})
    if not found:
        msg = f"no checkpoints in {path}; training saves the first one at the end of the first epoch"
        raise CheckpointNotFoundError(msg)
    return [LocalStorage(directory) for directory in found]


def _checkpoints(path: Path, depth: int) -> Sequence[Path]:
    children: list[Path] = []
    with suppress(PermissionError):
        children += [one for one in path.iterdir() if one.is_dir() and not one.is_symlink() and one.name[0] != "."]
    here = [one for one in children if is_checkpoint(one)]
    if here or depth == 0:
        return here
    return [found for child in children for found in _checkpoints(child, depth - 1)]
