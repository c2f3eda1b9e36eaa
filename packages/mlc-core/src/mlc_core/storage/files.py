"""Single files and directories, durably: the calls that LocalStorage is made of."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc_core.errors import DiskFullError, StorageError
from mlc_core.memory import Spans, address_of
from mlc_core.storage import direct
from mlc_core.storage.direct import Chunks
from mlc_core.storage.hashing import Hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mlc_core.protocols import Buffer

__all__ = [
    "check_room",
    "failures",
    "is_abandoned",
    "make_directory",
    "open_plain",
    "sync_directory",
    "view",
    "write_durably",
]

WORTH_RESERVING = 1 << 20  # bytes; below, one plain write is quicker and tells as soon that the disk is full
WORTH_MAPPING = 1 << 16  # bytes; below, a plain read is as quick, and a bad disk is an error instead of a signal
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def failures(path: Path, *, missing: type[OSError] = StorageError) -> Iterator[None]:
    """Turn what the operating system says about *path* into our errors; a missing file into *missing*."""
    try:
        yield
    except StorageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
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


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open *path* if it is a plain file: a pipe must not make us wait, and a link must not lead us elsewhere.

    Raises:
        StorageError: If it is anything else.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{path} is no plain file"
        raise StorageError(msg)
    return descriptor


def view(path: Path) -> memoryview:
    """Return the content of *path*: read if it is short, else mapped privately, to be read when it is looked at."""
    descriptor = open_plain(path)
    try:
        status = os.fstat(descriptor)
        if status.st_size >= WORTH_MAPPING:
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return memoryview(bytearray(opened.read()))
    finally:
        os.close(descriptor)


def write_durably(path: Path, size: int, pieces: Iterable[Buffer]) -> str:
    """Write a new file of *size* bytes, sync it, and return its digest.

    Raises:
        DiskFullError, StorageError: If the disk is full or fails, or the pieces have not *size* bytes.
    """
    with failures(path):
        if size < WORTH_RESERVING:
            return _write_small(path, size, pieces)
        in_place = isinstance(pieces, Spans) and pieces.still
        chunks = Chunks(_spans(pieces), size, path, in_place=in_place)
        descriptor = direct.open_new(path)
        try:
            _reserve(descriptor, size)
            direct.write_chunks(descriptor, chunks, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return chunks.digest


def _write_small(path: Path, size: int, pieces: Iterable[Buffer]) -> str:
    content = b"".join([bytes(piece) for piece in pieces])  # copied before the next piece is asked for
    hashed = Hashed([content], size, path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for piece in hashed:
            _write_all(descriptor, memoryview(piece))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashed.digest


def _spans(pieces: Iterable[Buffer]) -> Iterator[tuple[int, int]]:
    if isinstance(pieces, Spans):
        yield from pieces.spans()
        return
    for piece in pieces:
        yield address_of(piece), memoryview(piece).nbytes


def _reserve(descriptor: int, size: int) -> None:
    """Ask for all of the space before the first byte, where the file system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]  # the system may take less than it was given


def make_directory(path: Path) -> None:
    """Make *path* and what is missing above it, each with a durable name."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


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
