"""One checkpoint, opened: verified, then as much of it decoded as is asked for."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.catalogs import open_storage, serializers
from mlc_core.collector import no_collection
from mlc_core.distributed.naming import SHARDED
from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError, StorageError
from mlc_core.manifest import decode_manifest
from mlc_core.memory import digest_of
from mlc_core.naming import MANIFEST, STATE
from mlc_core.state import decode_document
from mlc_core.state.tree import decode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlc_core.distributed.opened import ShardedCheckpoint
    from mlc_core.protocols import Storage, TensorBytes
    from mlc_core.records import FileRecord, Saved

__all__ = ["CheckpointReader", "open_checkpoint"]

READERS = 2
WORTH_A_THREAD = 8 << 20  # bytes


class CheckpointReader:
    """The checkpoint *saved* in *storage*."""

    def __init__(self, storage: Storage, saved: Saved) -> None:
        self.storage = storage
        self.saved = saved

    @property
    def location(self) -> Path | str:
        """Where it lies."""
        return self.storage.location(self.saved.name)

    @property
    def is_sharded(self) -> bool:
        """Whether several ranks saved it together."""
        return any(record.name == SHARDED for record in self.saved.files)

    def verify(self) -> None:
        """Read every file and hold it against the manifest.

        Raises:
            CorruptCheckpointError: At the first file that is missing or changed; names it and the cause.
        """
        self._read_all(self.saved.files, verify=True)

    def load(
        self, *, only: str | Collection[str] | None = None, verify: bool = True, copy: bool = False
    ) -> dict[str, Any]:
        """Return the state of each item, or of those in *only*.

        Tensors share the mapped file until they are written to: then they get pages of their own, and the file never
        changes. The space of a removed checkpoint is free once they are gone.

        Args:
            only: A name of an item, or several; the files of others are not read.
            verify: Hold what is read against the manifest first.
            copy: Give tensors memory of their own at once.

        Raises:
            CheckpointNotFoundError: If an item in *only* is not in the checkpoint.
            CorruptCheckpointError: If a file is missing or changed.
        """
        wanted = self.saved.items if only is None else (only,) if isinstance(only, str) else tuple(only)
        missing = [name for name in wanted if name not in self.saved.items]
        if missing:
            msg = f"{self.location} holds no {', '.join(missing)}; it holds {', '.join(self.saved.items)}"
            raise CheckpointNotFoundError(msg)
        needed = [one for one in self.saved.files if only is None or one.name == STATE or one.item in wanted]
        views = self._read_all(needed, verify=verify)
        if STATE not in views:
            msg = f"{self.location}: the manifest lists no {STATE}"
            raise CorruptCheckpointError(msg)
        with no_collection():
            trees = decode_document(views[STATE])
            return {name: self._decode(name, trees, views, copy=copy) for name in wanted}

    def _decode(self, item: str, trees: Mapping[str, Any], views: Mapping[str, memoryview], *, copy: bool) -> Any:
        tensors = self._tensors(item, views)
        try:
            return decode(trees[item], tensors, copy=copy)
        except (KeyError, RecursionError, CorruptCheckpointError) as error:
            msg = f"{self.location}/{STATE}: item {item!r} cannot be read: {error}"
            raise CorruptCheckpointError(msg) from error

    def raw_tensors(self, item: str = "model", *, verify: bool = True) -> Mapping[str, TensorBytes]:
        """Return the tensors of *item* as bytes that share the mapped file. Torch is not needed.

        Raises:
            CorruptCheckpointError: If a file is missing or changed.
        """
        records = [record for record in self.saved.files if record.item == item]
        return self._tensors(item, self._read_all(records, verify=verify))

    def raw_tree(self, item: str = "model", *, verify: bool = True) -> Any:
        """Return the typed JSON of *item*, where tensors are names of `raw_tensors`; None if there is no such item.

        Raises:
            CorruptCheckpointError: If the file was changed.
        """
        records = [record for record in self.saved.files if record.name == STATE]
        views = self._read_all(records, verify=verify)
        return decode_document(views[STATE]).get(item) if views else None

    def tensors(self, item: str = "model") -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of each tensor of *item*; nothing but headers is read, and torch is not needed."""
        in_pieces = {} if self._sharded is None else self._sharded.layout.tensors
        found = in_pieces[item] if item in in_pieces else self.raw_tensors(item, verify=False)
        return {name: (one.dtype, one.shape) for name, one in found.items()}

    @functools.cached_property
    def _sharded(self) -> ShardedCheckpoint | None:
        """What says how tensors in pieces are put together; None where several ranks did not save together."""
        if not self.is_sharded:
            return None
        from mlc_core.distributed.opened import ShardedCheckpoint  # it reads by way of this module

        return attrs.evolve(ShardedCheckpoint.read(self), verifies=False)  # pieces are verified when they are read

    def _tensors(self, item: str, views: Mapping[str, memoryview]) -> Mapping[str, TensorBytes]:
        if self._sharded is not None and item in self._sharded.layout.tensors:
            return self._sharded.whole(item)
        found: dict[str, TensorBytes] = {}
        for record in self.saved.files:
            if record.item != item:
                continue
            try:
                found |= serializers().make(record.serializer).load(views[record.name])
            except ValueError as error:
                msg = f"{self.location}/{record.name}: {error}"
                raise CorruptCheckpointError(msg) from error
        return found

    def _read_all(self, records: Sequence[FileRecord], *, verify: bool) -> dict[str, memoryview]:
        """Return the content of each file, large ones read by two threads: hashing lets others run."""
        read = functools.partial(self._read, verify=verify)
        if sum(record.size >= WORTH_A_THREAD for record in records) < 2:
            return {record.name: read(record) for record in records}
        with ThreadPoolExecutor(READERS) as threads:
            return {record.name: view for record, view in zip(records, threads.map(read, records), strict=True)}

    def _read(self, record: FileRecord, *, verify: bool) -> memoryview:
        try:
            data = self.storage.read(self.saved.name, record.name)
        except FileNotFoundError as error:
            msg = f"{self.location}/{record.name} is missing; `mlc checkpoints repair` may find it elsewhere"
            raise CorruptCheckpointError(msg) from error
        if len(data) != record.size:
            msg = f"{self.location}/{record.name} has {len(data):,} bytes where {record.size:,} were committed"
            raise CorruptCheckpointError(msg)
        if verify and self._digest(data, record) != record.xxh3_128:
            msg = (
                f"{self.location}/{record.name} was changed after it was committed: its digest does not match; "
                "load another checkpoint, or let `mlc checkpoints repair` look for a sound copy"
            )
            raise CorruptCheckpointError(msg)
        return data

    def _digest(self, data: memoryview, record: FileRecord) -> str:
        try:
            return digest_of(data)
        except OSError as error:
            msg = f"{self.location}/{record.name} cannot be read ({error.strerror}): the disk is failing"
            raise StorageError(msg) from error


def open_checkpoint(path: Path | str) -> CheckpointReader:
    """Open the checkpoint at *path*, a directory, a link to one, or a URL.

    Raises:
        CheckpointNotFoundError: If there is no manifest: nothing there was ever committed.
        CorruptCheckpointError: If the manifest is not the one that was committed.
    """
    place = os.path.realpath(path) if isinstance(path, Path) or "://" not in path else path
    parent, _, name = place.rstrip("/").rpartition("/")
    storage = open_storage(parent or "/")
    entry = storage.pointers().get(name, name)
    try:
        data = storage.read(entry, MANIFEST)
    except (FileNotFoundError, ConfigurationError) as error:
        msg = f"{path} is not a checkpoint: there is no {MANIFEST}. `mlc checkpoints ls` lists those that there are"
        raise CheckpointNotFoundError(msg) from error
    saved = decode_manifest(data, str(storage.location(entry)))
    return CheckpointReader(storage, attrs.evolve(saved, name=entry))  # it may have been copied and renamed
