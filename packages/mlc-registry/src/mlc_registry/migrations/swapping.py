"""One file or directory in the place of another at one moment, with a copy of what was there before."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["copy_tree", "discard", "keep_backup", "swap", "sync_tree", "workshop"]

EXCHANGE = 2  # RENAME_EXCHANGE on Linux, and RENAME_SWAP on macOS
AT_CWD = -100
LOCK = "lock"


@contextmanager
def workshop(path: Path) -> Iterator[Path]:
    """Make an empty directory beside *path* for one process at a time; what a killed one left is cleared away.

    Raises:
        MigrationError: If another process is at work on *path*, or nothing can be written there.
    """
    folder = path.with_name(f".{path.name}.migrating")
    handle = _lock(folder)
    try:
        for one in folder.iterdir():
            if one.name != LOCK:
                discard(one)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _lock(folder: Path) -> int:
    while True:
        try:
            folder.mkdir(exist_ok=True)
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # it was cleared away at this moment
            if not folder.parent.is_dir():
                raise
            continue
        except OSError as error:
            msg = f"nothing was migrated, as {folder.parent} cannot be written to: {error.strerror or error}"
            raise MigrationError(msg) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), (folder / LOCK).stat()):
                return handle
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(handle)
            msg = f"nothing was migrated: another process is migrating {folder.name[1:].removesuffix('.migrating')}"
            raise MigrationError(msg) from error
        os.close(handle)


def copy_tree(origin: Path, target: Path) -> None:
    """Copy the file or directory *origin*; nothing that is done to the copy reaches it."""
    if origin.is_dir():
        shutil.copytree(origin, target)
        for parent, _, names in os.walk(target):
            for place in (parent, *(os.path.join(parent, name) for name in names)):  # noqa: PTH118 - as os.walk has it
                os.chmod(place, os.stat(place).st_mode | 0o200)  # noqa: PTH101, PTH116
    else:
        shutil.copyfile(origin, target)


def sync_tree(path: Path) -> None:
    """Make everything in *path* durable."""
    if path.is_file():
        _sync_file(path)
        return
    for parent, _, names in os.walk(path):
        folder = path.__class__(parent)
        for name in names:
            _sync_file(folder / name)
        sync_directory(folder)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_backup(path: Path, backup: Path, room: Path) -> None:
    """Keep what is at *path* as *backup*, whole or not at all; the files are shared where the file system allows it.

    Raises:
        MigrationError: If something else is there already.
    """
    if backup.is_symlink() or backup.exists():
        msg = f"nothing was migrated: {backup} is there, from a migration before; move it away"
        raise MigrationError(msg)
    draft = room / "backup"
    if path.is_dir():
        shutil.copytree(path, draft, copy_function=_link_or_copy, symlinks=True)
    else:
        _link_or_copy(str(path), str(draft))
    sync_tree(draft)
    draft.rename(backup)
    sync_directory(backup.parent)


def _link_or_copy(origin: str, target: str) -> None:
    try:
        os.link(origin, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(origin, target, follow_symlinks=False)


def swap(fresh: Path, path: Path) -> None:
    """Put *fresh* in the place of *path*, at one moment; what was there is at *fresh* then, or gone.

    Raises:
        MigrationError: If this file system cannot do that with directories.
    """
    sync_tree(fresh)
    if not path.is_dir() and not fresh.is_dir():
        fresh.replace(path)
    else:
        _exchange(fresh, path)
    sync_directory(path.parent)


def _exchange(one: Path, other: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(one), os.fsencode(other))
    failed: int | None = None
    if sys.platform == "darwin":
        failed = library.renamex_np(*names, EXCHANGE)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(AT_CWD, names[0], AT_CWD, names[1], EXCHANGE)
    if failed == 0:
        return
    number = errno.ENOSYS if failed is None else ctypes.get_errno()
    msg = (
        f"{other} stays as it is: two directories cannot be exchanged at one moment here ({os.strerror(number)}); "
        "write to another place with --output, and move it yourself"
    )
    raise MigrationError(msg)


def discard(path: Path) -> None:
    """Remove the file or directory *path*."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
