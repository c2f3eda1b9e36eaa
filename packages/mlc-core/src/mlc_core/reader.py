"""One checkpoint, opened: verified, then as much of it decoded as is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import xxhash

from mlc_core.catalogs import open_storage, serializers
from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from mlc_core.manifest import decode_manifest
from mlc_core.naming import MANIFEST, STATE
from mlc_core.state import decode_document
from mlc_core.state.tree import decode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mlc_core.protocols import Storage, TensorBytes
    from mlc_core.records import FileRecord, Saved

__all__ = ["CheckpointReader", "open_checkpoint"]


class CheckpointReader:
    """The checkpoint *saved* in *storage*."""

    def __init__(self, storage: Storage, saved: Saved) -> None:
        self.storage = storage
        self.saved = saved

    @property
    def location(self) -> Path | str:
        """Where it lies."""
        return self.storage.location(self.saved.name)

    def verify(self) -> None:
        """Read every file and hold it against the manifest.

        Raises:
            CorruptCheckpointError: At the first file that is missing or changed; names it and the cause.
        """
        for record in self.saved.files:
            self._read(record, verify=True)

    def load(self, *, only: Collection[str] | None = None, verify: bool = True, copy: bool = True) -> dict[str, Any]:
        """Return the state of each item, or of those in *only*.

        Args:
            only: Names of items; the others are not read.
            verify: Hold what is read against the manifest first.
            copy: Give tensors memory of their own. Without, they share the mapped file until they are written to.

        Raises:
            CheckpointNotFoundError: If an item in *only* is not in the checkpoint.
            CorruptCheckpointError: If a file is missing or changed.
        """
        wanted = self.saved.items if only is None else tuple(only)
        missing = [name for name in wanted if name not in self.saved.items]
        if missing:
            msg = f"{self.location} holds no {', '.join(missing)}; it holds {', '.join(self.saved.items)}"
            raise CheckpointNotFoundError(msg)
        records = {record.name: record for record in self.saved.files}
        if STATE not in records:
            msg = f"{self.location}: the manifest lists no {STATE}"
            raise CorruptCheckpointError(msg)
        trees = decode_document(self._read(records[STATE], verify=verify))
        state = {}
        for name in wanted:
            tensors = self._tensors(name, verify=verify)
            try:
                state[name] = decode(trees[name], tensors, copy=copy)
            except (KeyError, RecursionError, CorruptCheckpointError) as error:
                msg = f"{self.location}/{STATE}: item {name!r} cannot be read: {error}"
                raise CorruptCheckpointError(msg) from error
        return state

    def load_all(self, *, verify: bool = True) -> dict[str, Any]:
        """Return the state of each item, after every file was held against the manifest.

        Raises:
            CorruptCheckpointError: If a file is missing or changed.
        """
        if verify:
            self.verify()
        return self.load(verify=False)

    def tensors(self, item: str = "model") -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of each tensor of *item*; nothing but headers is read, and torch is not needed."""
        return {name: (one.dtype, one.shape) for name, one in self._tensors(item, verify=False).items()}

    def _tensors(self, item: str, *, verify: bool) -> Mapping[str, TensorBytes]:
        found: dict[str, TensorBytes] = {}
        for record in self.saved.files:
            if record.item == item:
                found |= self._load_tensors(record, verify=verify)
        return found

    def _load_tensors(self, record: FileRecord, *, verify: bool) -> Mapping[str, TensorBytes]:
        data = self._read(record, verify=verify)
        try:
            return serializers().make(record.serializer).load(data)
        except ValueError as error:
            msg = f"{self.location}/{record.name}: {error}"
            raise CorruptCheckpointError(msg) from error

    def _read(self, record: FileRecord, *, verify: bool) -> memoryview:
        try:
            data = self.storage.read(self.saved.name, record.name)
        except FileNotFoundError as error:
            msg = f"{self.location}/{record.name} is missing; restore it from a copy or load another checkpoint"
            raise CorruptCheckpointError(msg) from error
        if len(data) != record.size:
            msg = f"{self.location}/{record.name} has {len(data):,} bytes where {record.size:,} were committed"
            raise CorruptCheckpointError(msg)
        if verify and xxhash.xxh3_128_hexdigest(data) != record.xxh3_128:
            msg = (
                f"{self.location}/{record.name} was changed after it was committed: its digest does not match; "
                "load another checkpoint, or restore the file from a copy"
            )
            raise CorruptCheckpointError(msg)
        return data


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
