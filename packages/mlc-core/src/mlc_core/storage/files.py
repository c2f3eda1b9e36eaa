"""Single files and directories, durably: the calls that LocalStorage is made of."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc_core.errors import DiskFullError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mlc_core.protocols import Buffer

__all__ = ["check_room", "failures", "is_abandoned", "sync_directory", "write_durably"]

WORTH_RESERVING = 1 << 20  # bytes; below, the write itself tells as soon
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def failures(path: Path, *, missing: type[OSError] = StorageError) -> Iterator[None]:
    """Turn what the operating system says about *path* into our errors; a missing file into *missing*."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        msg = f"{error.filename or path} is not there"
        raise missing(msg) from error
    except OSError as error:
        if error.errno in FULL:
            msg = (
                f"no room left for {path} ({error.strerror}); free some space or lower max_checkpoints, then save again"
            )
            raise DiskFullError(msg) from error
        msg = f"{error.filename or path}: {error.strerror or error}"
        raise StorageError(msg) from error


def check_room(directory: Path, needed: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        DiskFullError: If the file system of *directory* has fewer than *needed* bytes for this user.
    """
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        msg = (
            f"{directory} has room for {free:,} bytes and the checkpoint needs {needed:,}; "
            "free some space or lower max_checkpoints, then save again"
        )
        raise DiskFullError(msg)


def write_durably(path: Path, size: int, pieces: Iterable[Buffer]) -> None:
    """Write a new file of *size* bytes and sync it.

    Raises:
        DiskFullError, StorageError: If the disk is full or fails.
    """
    with failures(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _reserve(descriptor, size)
            for piece in pieces:
                _write_all(descriptor, memoryview(piece).cast("B"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Ask for all of the space before the first byte, where the file system can."""
    if size < WORTH_RESERVING or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]  # the system may take less than it was given


def sync_directory(path: Path) -> None:
    """Make the names in the directory *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_abandoned(directory: Path) -> bool:
    """Say whether no living process holds the lock on *directory*."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
