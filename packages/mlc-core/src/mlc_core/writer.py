"""From states to a commit: files written and hashed, then the manifest, then one rename."""

from __future__ import annotations

import platform
import sys
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import attrs

from mlc_core.catalogs import serializers
from mlc_core.manifest import encode_manifest
from mlc_core.naming import STATE
from mlc_core.records import FileRecord, Saved
from mlc_core.state import collect, encode_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlc_core.protocols import Buffer, Staging, Storage

__all__ = ["Draft", "draft", "new_id", "now", "versions"]

JSON = "json"


@attrs.frozen(kw_only=True)
class Content:
    """What one file of a checkpoint will be."""

    name: str
    size: int
    pieces: Iterable[Buffer]
    serializer: str
    item: str | None

    def write(self, staging: Staging) -> FileRecord:
        """Write it, and return its record."""
        digest = staging.write(self.name, self.size, self.pieces)
        return FileRecord(name=self.name, size=self.size, xxh3_128=digest, serializer=self.serializer, item=self.item)


class Draft:
    """A checkpoint whose files are durable and that nobody can see yet."""

    def __init__(self, staging: Staging, items: tuple[str, ...], files: tuple[FileRecord, ...]) -> None:
        self._staging = staging
        self.items = items
        self.files = files

    def commit(self, saved: Saved) -> None:
        """Make it visible as *saved*.

        Raises:
            EntryExistsError: If its name is taken; another one may be tried.
        """
        self._staging.commit(saved.name, encode_manifest(saved))


@contextmanager
def draft(storage: Storage, items: Mapping[str, object], *, serializer: str) -> Iterator[Draft]:
    """Write the state of *items* to *storage*; what is not committed inside the block is discarded.

    Raises:
        StateError: If something cannot be saved without losing it, before anything is written.
        DiskFullError, StorageError: If there is no room or the storage fails.
    """
    states = collect(items)
    form = serializers().make(serializer)
    document = encode_document(states)
    contents = [Content(name=STATE, size=len(document), pieces=[document], serializer=JSON, item=None)]
    for name, state in states.items():
        if state.tensors:
            size, pieces = form.dump(state.tensors)
            file = f"{name}{form.suffix}"
            contents.append(Content(name=file, size=size, pieces=pieces, serializer=serializer, item=name))
    staging = storage.stage(sum(one.size for one in contents))
    try:
        records = tuple(one.write(staging) for one in contents)
        yield Draft(staging, tuple(states), records)
    finally:
        staging.discard()  # does nothing after a commit


def new_id() -> str:
    """Return an id that nothing else has or will have."""
    return uuid.uuid4().hex


def now() -> str:
    """Return the time in UTC, for people; nothing is ever ordered by it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """Return the versions of what writes: Python, this package, and torch and NumPy where they are in use."""
    from importlib.metadata import version

    found = {"python": platform.python_version(), "mlc-core": version("mlc-core")}
    for name in ("torch", "numpy"):
        if name in sys.modules:
            found[name] = str(sys.modules[name].__version__)
    return found
