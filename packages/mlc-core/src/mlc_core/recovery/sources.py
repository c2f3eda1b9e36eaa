"""Where the content of a lost file may still be: other checkpoints beside it, the quarantine, copies elsewhere."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import xxhash

from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.recovery.examination import read_saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.protocols import Storage
    from mlc_core.records import FileRecord

__all__ = ["Source", "Sources"]


@attrs.frozen
class Source:
    """A file of a committed checkpoint."""

    storage: Storage
    entry: str
    file: str

    def __str__(self) -> str:
        place = self.storage.location(self.entry)
        return f"{place.absolute() if isinstance(place, Path) else place}/{self.file}"

    def read(self, record: FileRecord) -> memoryview:
        """Return its content, which is what *record* says.

        Raises:
            StorageError: If it is not, or not any more.
        """
        try:
            data = self.storage.read(self.entry, self.file)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error
        if len(data) != record.size or xxhash.xxh3_128_hexdigest(data) != record.xxh3_128:
            msg = f"{self} is not what its manifest says"
            raise StorageError(msg)
        return data


class Sources:
    """Every file that the manifests in *storages* list, by size and digest; what they say is checked before it is used.

    Args:
        storages: Where to look, the nearest first.
    """

    def __init__(self, storages: Sequence[Storage]) -> None:
        self._known: dict[tuple[int, str], list[Source]] = defaultdict(list)
        for storage in storages:
            for name in sorted(storage.entries()):
                try:
                    saved = read_saved(storage, name)
                except (FileNotFoundError, CorruptCheckpointError, StorageError):
                    continue  # nothing that it lists can be believed
                for record in saved.files:
                    self._known[record.size, record.xxh3_128].append(Source(storage, name, record.name))

    def find(self, record: FileRecord) -> Source | None:
        """Return a file that has, at this moment, the size and digest of *record*."""
        for source in self._known[record.size, record.xxh3_128]:
            try:
                source.read(record)
            except StorageError:
                continue
            return source
        return None
