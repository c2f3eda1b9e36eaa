"""The memory of this process, for tests and notebooks: the protocol with nothing around it."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlc_core.errors import EntryExistsError, StorageError
from mlc_core.naming import MANIFEST, check_name
from mlc_core.protocols import Capabilities
from mlc_core.storage.hashing import Hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlc_core.protocols import Buffer

__all__ = ["MemoryStorage"]

Entry = dict[str, bytes]


class MemoryStorage:
    """The checkpoints of one model, gone with the process."""

    _shelves: dict[str, MemoryStorage] = {}  # noqa: RUF012 - one per process is the point: a URL names the same place

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._entries: dict[str, Entry] = {}
        self._tokens: dict[str, str] = {}
        self._pointers: dict[str, str] = {}
        self._aside: dict[str, Entry] = {}
        self._notes: list[bytes] = []
        self._lock = threading.RLock()

    @classmethod
    def from_url(cls, url: str) -> MemoryStorage:
        """Open what this process keeps under *url*."""
        return cls._shelves.setdefault(url.rstrip("/"), cls(url.rstrip("/")))

    @property
    def capabilities(self) -> Capabilities:
        """Neither durable nor shared; a file can be in two checkpoints."""
        return Capabilities(durable=False, shared=False, links=True)

    def entries(self) -> Mapping[str, str]:
        """Return the committed entries."""
        return dict(self._tokens)

    def read(self, entry: str, file: str) -> memoryview:
        """Return a copy of *file*."""
        return memoryview(bytearray(self.content(entry, file)))

    def stage(self, size: int) -> MemoryStaging:
        """Begin with nothing."""
        return MemoryStaging(self)

    def publish(self, entry: str, files: Entry) -> None:
        """Make *files* visible as *entry*."""
        with self._lock:
            if entry in self._entries:
                msg = f"{self.url}/{entry} is there already; a checkpoint is never overwritten"
                raise EntryExistsError(msg)
            self._entries[entry] = files
            self._tokens[entry] = uuid.uuid4().hex

    def remove(self, entry: str) -> None:
        """Forget *entry*."""
        with self._lock, suppress(KeyError):
            del self._entries[entry], self._tokens[entry]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads out."""
        with self._lock:
            yield

    def pointers(self) -> Mapping[str, str]:
        """Return the pointers."""
        return dict(self._pointers)

    def point(self, pointer: str, entry: str | None) -> None:
        """Set or remove *pointer*."""
        if entry is None:
            self._pointers.pop(pointer, None)
        else:
            self._pointers[check_name(pointer)] = check_name(entry)

    def location(self, entry: str) -> str:
        """Return the URL of *entry*."""
        return f"{self.url}/{entry}"

    def sweep(self) -> Sequence[str]:
        """Find nothing: what was staged and not committed is gone with its writer."""
        return ()

    def set_aside(self, entry: str) -> str:
        """Move *entry* to where nobody looks for checkpoints."""
        with self._lock:
            if check_name(entry) not in self._entries:
                msg = f"{self.url}/{entry} is not there"
                raise FileNotFoundError(msg)
            place = f"{entry}-{uuid.uuid4().hex[:8]}"
            self._aside[place] = self._entries[entry]
            self.remove(entry)
        return f"{self.url}/quarantine/{place}"

    def note(self, line: bytes) -> None:
        """Keep *line*."""
        self._notes.append(bytes(line))

    def notes(self, last: int | None = None) -> Sequence[bytes]:
        """Return the lines, or the *last* ones."""
        return tuple(self._notes if last is None else self._notes[-last:])

    def content(self, entry: str, file: str) -> bytes:
        """Return *file* itself, which nobody changes."""
        try:
            return self._entries[check_name(entry)][check_name(file)]
        except KeyError:
            msg = f"{self.url}/{entry}/{file} is not there"
            raise FileNotFoundError(msg) from None


class MemoryStaging:
    """Files that wait for their commit."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._files: Entry = {}

    def write(self, file: str, size: int, pieces: Iterable[Buffer]) -> str:
        """Join *pieces*."""
        hashed = Hashed(pieces, size, check_name(file))
        self._files[file] = b"".join(bytes(piece) for piece in hashed)
        return hashed.digest

    def link(self, file: str, entry: str) -> None:
        """Let two checkpoints have the same bytes."""
        try:
            self._files[check_name(file)] = self._storage.content(entry, file)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error

    def commit(self, entry: str, manifest: bytes) -> None:
        """Publish the files with their manifest."""
        self._storage.publish(check_name(entry), {**self._files, MANIFEST: manifest})

    def discard(self) -> None:
        """Forget the files."""
        self._files = {}
