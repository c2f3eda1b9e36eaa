"""From states to a commit: files written and hashed, then the manifest, then one rename."""

from __future__ import annotations

import functools
import platform
import sys
import uuid
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import attrs

from mlc_core.catalogs import serializers
from mlc_core.collector import no_collection
from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.manifest import decode_manifest, encode_manifest
from mlc_core.naming import MANIFEST, STATE
from mlc_core.records import FileRecord, Saved
from mlc_core.shards import cut, index_document, index_name, shard_names
from mlc_core.state import collect, encode_document
from mlc_core.state.frameworks import wait_for_devices
from mlc_core.state.frozen import frozen_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mlc_core.increment import Increment
    from mlc_core.protocols import Buffer, LinkingStaging, Serializer, Staging, Storage, TensorBytes

__all__ = ["Content", "Draft", "Plan", "Write", "draft", "lay_out", "new_id", "now", "versions", "write_here"]

JSON = "json"


@attrs.frozen(kw_only=True)
class Content:
    """What one file of a checkpoint will be."""

    name: str
    size: int
    pieces: Iterable[Buffer]
    serializer: str
    item: str | None = None
    frozen: bool = False
    """Whether nothing in it trains."""


@attrs.frozen
class Plan:
    """Everything that a checkpoint will be made of, before any of it is written."""

    items: tuple[str, ...]
    contents: tuple[Content, ...]


def lay_out(items: Mapping[str, object], *, serializer: str) -> Plan:
    """Return the plan of the checkpoint of *items*. Tensors stay where they are.

    Raises:
        ConfigurationError: If an item's name cannot name a file.
        StateError: If something cannot be saved without losing it.
    """
    form = serializers().make(serializer)
    wait_for_devices()
    with no_collection():
        states = collect(items)
        document = encode_document(states)
        contents = [Content(name=STATE, size=len(document), pieces=[document], serializer=JSON)]
        for name, state in states.items():
            if state.tensors:
                contents += _files_of(name, state.tensors, frozen_names(items[name]), form, serializer)
    return Plan(tuple(states), tuple(contents))


def _files_of(
    item: str, tensors: Mapping[str, TensorBytes], frozen: Collection[str], form: Serializer, serializer: str
) -> list[Content]:
    shards = cut(tensors, frozen)
    names = shard_names(item, len(shards), form.suffix)
    contents = []
    for name, shard in zip(names, shards, strict=True):
        size, pieces = form.dump(shard)
        still = next(iter(shard)) in frozen
        contents.append(Content(name=name, size=size, pieces=pieces, serializer=serializer, item=item, frozen=still))
    if len(shards) > 1:
        index = index_document(shards, names)
        contents.append(Content(name=index_name(item, form.suffix), size=len(index), pieces=[index], serializer=JSON))
    return contents


class Draft:
    """A checkpoint whose files are durable and that nobody can see yet."""

    def __init__(self, staging: Staging, plan: Plan, files: tuple[FileRecord, ...]) -> None:
        self._staging = staging
        self._plan = plan
        self.items = plan.items
        self.files = files

    def commit(self, saved: Saved) -> None:
        """Make it visible as *saved*.

        Raises:
            EntryExistsError: If its name is taken; another one may be tried.
        """
        self._staging.commit(saved.name, encode_manifest(saved))

    def written(self) -> Iterator[tuple[FileRecord, Iterable[Buffer]]]:
        """Yield each file and the content that it was made from."""
        for record, content in zip(self.files, self._plan.contents, strict=True):
            yield record, content.pieces


Write = Callable[["Staging", Content], str]


def write_here(staging: Staging, content: Content) -> str:
    """Write *content* to *staging* in this process, and return its digest."""
    return staging.write(content.name, content.size, content.pieces)


@contextmanager
def draft(
    storage: Storage, plan: Plan, *, before: Saved | None, increment: Increment, write: Write = write_here
) -> Iterator[Draft]:
    """Write what *plan* says to *storage*; what is not committed inside the block is discarded.

    What the checkpoint *before* has already is taken over from there, where the storage can do that. For the rest
    *write* is called.

    Raises:
        DiskFullError, StorageError: If there is no room or the storage fails.
    """
    linked: dict[str, FileRecord] = {}
    if storage.capabilities.links:
        for one in plan.contents:
            found = increment.find(one.name, one.size, one.pieces, before, frozen=one.frozen)
            if found is not None:
                linked[one.name] = found
    staging = storage.stage(sum(one.size for one in plan.contents if one.name not in linked))
    try:
        records = tuple(_put(storage, staging, one, before, linked.get(one.name), write) for one in plan.contents)
        yield Draft(staging, plan, records)
    finally:
        staging.discard()  # does nothing after a commit


def _put(
    storage: Storage,
    staging: Staging,
    content: Content,
    before: Saved | None,
    same: FileRecord | None,
    write: Write,
) -> FileRecord:
    if before is not None and same is not None:
        # It may have been removed or changed meanwhile, or have as many links as it can: then it is written.
        with suppress(CorruptCheckpointError, StorageError, FileNotFoundError), storage.lock():
            if _is_still(storage, before, same):
                cast("LinkingStaging", staging).link(content.name, before.name)
                return attrs.evolve(same, item=content.item, serializer=content.serializer)
    digest = write(staging, content)
    return FileRecord(
        name=content.name, size=content.size, xxh3_128=digest, serializer=content.serializer, item=content.item
    )


def _is_still(storage: Storage, before: Saved, record: FileRecord) -> bool:
    """Say whether the entry of that name is this very checkpoint: a name may come again."""
    found = decode_manifest(storage.read(before.name, MANIFEST), before.name)
    return found.id == before.id and len(storage.read(before.name, record.name)) == record.size


def new_id() -> str:
    """Return an id that nothing else has or will have."""
    return uuid.uuid4().hex


def now() -> str:
    """Return the time in UTC, for people; nothing is ever ordered by it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """Return the versions of what writes: Python, this package, and torch and NumPy where they are in use."""
    found = {"python": platform.python_version(), "mlc-core": _own_version()}
    for name in ("torch", "numpy"):
        if name in sys.modules:
            found[name] = str(sys.modules[name].__version__)
    return found


@functools.cache
def _own_version() -> str:
    from importlib.metadata import version

    return version("mlc-core")
