"""SHA-256 of one file and of all files of a version, and what is wrong with a file that has another."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedIOBase
    from pathlib import Path

    from mlc_registry.records import File

__all__ = ["fault_of", "hash_stream", "root_digest"]

PIECE = 1 << 20


def hash_stream(stream: BufferedIOBase, copy: BufferedIOBase | None = None) -> str:
    """Return the digest of what is left in *stream*, written to *copy* on the way."""
    digest = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    while count := stream.readinto(piece):
        digest.update(piece[:count])
        if copy is not None:
            copy.write(piece[:count])
    return f"sha256:{digest.hexdigest()}"


def root_digest(files: Sequence[File]) -> str:
    """Return one digest for *files*: that of the JSON list of [path, size, digest], sorted by path."""
    listed = [[one.path, one.size, one.digest] for one in sorted(files, key=lambda one: one.path)]
    return f"sha256:{hashlib.sha256(orjson.dumps(listed)).hexdigest()}"


def fault_of(path: Path, published: File) -> str:
    """Return what is wrong with the file at *path*, as in "is missing", or nothing."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "is no file any more"
        if found.st_size != published.size:
            return f"has {found.st_size:,} bytes, not the {published.size:,} that were published"
        with path.open("rb") as stream:
            digest = hash_stream(stream)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if digest == published.digest else f"has other content: {digest}, not {published.digest}"
