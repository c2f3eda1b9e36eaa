"""A tar of plain files with expected names: written in order, and read without trusting any of it."""

from __future__ import annotations

import hashlib
import tarfile
from typing import IO, TYPE_CHECKING, NoReturn, Protocol

import attrs

from mlc_registry.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["Entry", "HashingReader", "Readable", "add_file", "read_entries"]

PLAIN = {tarfile.REGTYPE, tarfile.AREGTYPE}


class Readable(Protocol):
    """A stream, as far as it is needed."""

    def read(self, size: int = ..., /) -> bytes:
        """Return the next bytes."""
        ...


class HashingReader:
    """What is read from *stream*, with its digest."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        piece = self._stream.read(size)
        self._digest.update(piece)
        return piece

    @property
    def digest(self) -> str:
        """The digest of all that was read."""
        return f"sha256:{self._digest.hexdigest()}"


@attrs.frozen
class Entry:
    """One file in a tar, to be read before the next one is asked for."""

    name: str
    size: int
    mode: int
    stream: IO[bytes]


def add_file(archive: tarfile.TarFile, name: str, size: int, stream: Readable, *, mode: int = 0o444) -> None:
    """Add *size* bytes of *stream* under *name*, with nothing of this machine: no owner and no time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    archive.addfile(member, stream)


def read_entries(path: Path) -> Generator[Entry, None, None]:
    """Return the files in the tar at *path*, one after the other; nothing is ever unpacked by its name.

    Raises:
        ArchiveError: If it is no tar, or holds a link, a directory or a device, or a name twice.
    """
    seen: set[str] = set()
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.type not in PLAIN or member.issparse() or member.name in seen:
                    why = "is there twice" if member.name in seen else "is no plain file"
                    _refuse(path, f"{member.name[:80]!r} {why}")
                seen.add(member.name)
                stream = archive.extractfile(member)
                assert stream is not None  # as for every plain file
                yield Entry(member.name, member.size, member.mode, stream)
    except ArchiveError:  # which is a ValueError, and says it all
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        _refuse(path, str(error) or type(error).__name__)


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{path} is no export of a registry that could be imported: {why}"
    raise ArchiveError(msg)
