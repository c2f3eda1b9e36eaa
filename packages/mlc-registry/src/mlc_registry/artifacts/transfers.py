"""One file from where it is to where it stays: linked or copied, hashed, synced."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mlc_registry.artifacts.digests import hash_stream
from mlc_registry.errors import SourceError
from mlc_registry.records import File

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_registry.artifacts.sources import Member

__all__ = ["bring", "sync_directory"]

# What a file system answers if it cannot link these two: another device, not allowed, not supported, too many links.
CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


def bring(member: Member, target: Path, *, link: bool) -> File:
    """Link *member* to *target* where that can be done and *link* allows it, or copy it; return what came.

    A copy cannot be written to. A link shares its file with the original, mode and all, so that stays as it is.

    Raises:
        SourceError: If it cannot be read, or changes while it is.
        OSError: If *target* cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        origin = member.origin.open("rb")
    except OSError as error:
        msg = f"{member.origin} cannot be published: {error.strerror or error}"
        raise SourceError(msg) from error
    with origin:
        before = os.fstat(origin.fileno())
        if link and _link(member.origin, target):
            digest = hash_stream(origin)
            os.fsync(origin.fileno())
        else:
            with target.open("xb") as copy:
                digest = hash_stream(origin, copy)
                os.fchmod(copy.fileno(), before.st_mode & 0o555)
                copy.flush()
                os.fsync(copy.fileno())
        after = os.fstat(origin.fileno())
    arrived = target.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or arrived.st_size != after.st_size:
        msg = f"{member.origin} cannot be published: it changed while it was read"
        raise SourceError(msg)
    return File(member.path, arrived.st_size, digest)


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _link(origin: Path, target: Path) -> bool:
    try:
        os.link(origin, target)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        return False
    return True
