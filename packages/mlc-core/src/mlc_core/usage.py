"""What checkpoints cost on the disk, when files can have several names."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from mlc_core.recovery import find_leftovers, find_quarantined
from mlc_core.storage.files import failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlc_core.storage import LocalStorage

__all__ = ["Usage", "measure"]

File = tuple[int, int]  # device and inode: what is on the disk once, whatever its names


@attrs.frozen(kw_only=True)
class Usage:
    """One directory, or all of them together."""

    kind: str
    """`checkpoint`, `quarantine`, `staging`, `trash` or `total`."""
    name: str
    apparent: int
    """Bytes, as if it were alone."""
    shared: int
    """Bytes of it that have another name elsewhere, in another checkpoint or outside."""
    freed: int
    """Bytes that deleting it, and nothing else, would give back."""


def measure(storage: LocalStorage) -> Sequence[Usage]:
    """Return the usage of each checkpoint, of all that lies beside them, and the total last."""
    root = storage.location("")
    places = [("checkpoint", name, root / name) for name in sorted(storage.entries(), key=_by_number)]
    places += [("quarantine", one.path.name, one.path) for one in find_quarantined(storage)]
    places += [(one.kind, one.path.name, one.path) for one in find_leftovers(storage)]
    files = {path: list(_files(path)) for _, _, path in places}
    rows = [_usage(kind, name, files[path]) for kind, name, path in places]
    everything = [one for found in files.values() for one in found]
    return [*rows, _usage("total", "total", everything)]


def _usage(kind: str, name: str, files: Sequence[tuple[File, int, int]]) -> Usage:
    names = Counter(file for file, _, _ in files)
    once = {file: (size, links) for file, size, links in files}
    apparent = sum(size for size, _ in once.values())
    freed = sum(size for file, (size, links) in once.items() if names[file] >= links)
    return Usage(kind=kind, name=name, apparent=apparent, shared=apparent - freed, freed=freed)


def _files(path: Path) -> Iterator[tuple[File, int, int]]:
    if path.is_symlink() or not path.is_dir():
        return
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError), failures(path, missing=FileNotFoundError):
                status = os.lstat(f"{folder}/{name}")
                yield (status.st_dev, status.st_ino), status.st_size, status.st_nlink


def _by_number(name: str) -> tuple[object, ...]:
    """Order `epoch_2` before `epoch_10`, for people."""
    digits = "".join(one if one.isdigit() else " " for one in name).split()
    return (tuple(map(int, digits)), name)
