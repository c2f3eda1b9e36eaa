"""Every file of a checkpoint held against its manifest, and all that is wrong, not the first fault only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.manifest import decode_manifest
from mlc_core.naming import MANIFEST
from mlc_core.reader import CheckpointReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlc_core.protocols import Storage
    from mlc_core.records import Saved

__all__ = ["Damage", "Examined", "examine", "read_saved"]


@attrs.frozen(kw_only=True)
class Damage:
    """One file that is not what was committed, or that could not be read."""

    file: str
    cause: str
    corrupt: bool = True
    """False where the storage failed to read it: it may be sound, and is tried again another time."""


@attrs.frozen(kw_only=True)
class Examined:
    """What an examination found."""

    name: str
    location: Path | str
    saved: Saved | None
    """None if its manifest cannot be believed."""
    damages: tuple[Damage, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether every file is what was committed."""
        return not self.damages

    @property
    def corrupt(self) -> bool:
        """Whether some file certainly is not."""
        return any(one.corrupt for one in self.damages)

    @property
    def cause(self) -> str | None:
        """What is wrong, or None."""
        return "; ".join(one.cause for one in self.damages) or None


def read_saved(storage: Storage, name: str) -> Saved:
    """Return what the manifest of *name* says.

    Raises:
        FileNotFoundError: If there is none.
        CorruptCheckpointError: If it cannot be believed.
        StorageError: If it cannot be read.
    """
    return attrs.evolve(decode_manifest(storage.read(name, MANIFEST), str(storage.location(name))), name=name)


def examine(storage: Storage, name: str, advance: Callable[[int], None] | None = None) -> Examined | None:
    """Read every file of the checkpoint *name*; None if it was removed meanwhile, as retention does.

    Args:
        storage: Where it lies.
        name: Its name there.
        advance: Told the bytes of each file that was read.
    """
    location = storage.location(name)
    try:
        saved = read_saved(storage, name)
    except FileNotFoundError:
        return None
    except (CorruptCheckpointError, StorageError) as error:
        damage = Damage(file=MANIFEST, cause=_cause(error), corrupt=isinstance(error, CorruptCheckpointError))
        return Examined(name=name, location=location, saved=None, damages=(damage,))
    damages = []
    for record in saved.files:
        try:
            CheckpointReader(storage, attrs.evolve(saved, files=(record,))).verify()
        except (CorruptCheckpointError, StorageError) as error:
            corrupt = isinstance(error, CorruptCheckpointError)
            damages.append(Damage(file=record.name, cause=_cause(error), corrupt=corrupt))
        if advance is not None:
            advance(record.size)
    if damages and not _is_still_there(storage, saved):
        return None
    return Examined(name=name, location=location, saved=saved, damages=tuple(damages))


def _is_still_there(storage: Storage, saved: Saved) -> bool:
    try:
        return read_saved(storage, saved.name).id == saved.id
    except FileNotFoundError:
        return False
    except (CorruptCheckpointError, StorageError):
        return True


def _cause(error: Exception) -> str:
    """Return what is wrong, without the advice for somebody who is loading."""
    cause, _, advice = str(error).rpartition("; ")
    return cause if cause and "/" not in advice else str(error)
