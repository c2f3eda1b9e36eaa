"""What writers left behind, who may still be at work on it, and its removal."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import attrs

from mlc_core.storage import files, local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlc_core.storage import LocalStorage

__all__ = ["Leftover", "find_leftovers", "remove_leftover", "size_below"]

AT_ONCE = 1.0  # seconds; a writer needs microseconds from making its directory to locking it


@attrs.frozen(kw_only=True)
class Leftover:
    """A checkpoint that was begun and not committed, or removed and not yet deleted."""

    kind: Literal["staging", "trash"]
    path: Path
    size: int
    """Bytes."""
    age: float
    """Seconds since it was changed."""
    state: Literal["in use", "young", "abandoned"]
    """A living process holds it; it is too young to know; nobody holds it."""


def find_leftovers(storage: LocalStorage, *, now: bool = False) -> Sequence[Leftover]:
    """Return what lies in staging and trash.

    Args:
        storage: Where to look.
        now: Call abandoned also what is too young to be sure at a glance. What a living process holds never is.
    """
    root = storage.location("")
    found = []
    for kind, folder in (("staging", local.STAGING), ("trash", local.TRASH)):
        for path in sorted(root.glob(f"{folder}/*")):
            with suppress(FileNotFoundError, NotADirectoryError):  # it may be committed or deleted at this moment
                found.append(_look(path, "staging" if kind == "staging" else "trash", AT_ONCE if now else local.GRACE))
    return found


def _look(path: Path, kind: Literal["staging", "trash"], grace: float) -> Leftover:
    with files.failures(path, missing=FileNotFoundError):
        age, size = time.time() - path.lstat().st_mtime, size_below(path)
        state: Literal["in use", "young", "abandoned"] = "young" if age < grace else "abandoned"
        # A look at the lock takes it for a moment, which must not be the one in which a writer begins.
        if state == "abandoned" and path.is_dir() and not path.is_symlink() and not files.is_abandoned(path):
            state = "in use"
    return Leftover(kind=kind, path=path, size=size, age=age, state=state)


def remove_leftover(leftover: Leftover) -> None:
    """Delete *leftover*, unless somebody took it up since it was found.

    Raises:
        StorageError: If it is in use, or cannot be deleted.
    """
    path = leftover.path
    with files.failures(path, missing=FileNotFoundError), suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif files.is_abandoned(path):
            shutil.rmtree(path)


def size_below(path: Path) -> int:
    """Return the bytes of all files at or below *path*."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for one in path.rglob("*"):
        with suppress(FileNotFoundError):
            total += 0 if one.is_dir() else one.lstat().st_size
    return total
