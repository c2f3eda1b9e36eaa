"""Taking a checkpoint out without deleting anything, and taking it back."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import CheckpointNotFoundError, CorruptCheckpointError, EntryExistsError, StorageError
from mlc_core.history import last_id, read_history, write_note
from mlc_core.naming import check_name
from mlc_core.recovery.examination import read_saved
from mlc_core.recovery.leftovers import size_below
from mlc_core.shelf import PIN, Shelf
from mlc_core.storage import LocalStorage, files, local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlc_core.history import Note
    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor, Saved

__all__ = ["Aside", "find_quarantined", "quarantine", "quarantine_storage", "restore"]

MARK = re.compile(r"-[0-9a-f]{8}$")  # what set_aside puts behind the name


@attrs.frozen(kw_only=True)
class Aside:
    """A checkpoint in quarantine."""

    name: str
    """What it was called among the checkpoints."""
    path: Path
    size: int
    saved: Saved | None
    """None if its manifest cannot be believed."""


def quarantine(storage: Storage, name: str, reason: str, *, monitor: Monitor | None = None) -> str:
    """Take the checkpoint *name* out of the checkpoints and return where it lies now; links follow.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        StorageError: If it cannot be moved.
    """
    with storage.lock():
        saved = _believed(storage, name)
        pinned = any(one.startswith(PIN) and entry == name for one, entry in storage.pointers().items())
        where = storage.set_aside(name)
        Shelf(storage, monitor).follow()
    known = saved.id if saved else last_id(_notes(storage), name)
    facts: dict[str, Any] = {"sequence": saved.sequence if saved else None, "where": where, "pinned": pinned or None}
    write_note(storage, "quarantined", name=name, id=known, reason=reason, **facts)
    return where


def _notes(storage: Storage) -> Sequence[Note]:
    try:
        return read_history(storage)
    except StorageError:
        return ()  # the note that is about to be written will say so


def _was_pinned(notes: Sequence[Note], wanted: str) -> bool:
    """Say whether the checkpoint of this id was pinned when it was set aside."""
    last = next((one for one in reversed(notes) if one.event == "quarantined" and one.id == wanted), None)
    return last is not None and last.facts.get("pinned") is True


def _believed(storage: Storage, name: str) -> Saved | None:
    try:
        return read_saved(storage, name)
    except (CorruptCheckpointError, StorageError):
        return None


def quarantine_storage(storage: LocalStorage) -> LocalStorage:
    """Return the quarantine of *storage*, to be looked into like any other directory of checkpoints."""
    return LocalStorage(storage.location("") / local.QUARANTINE)


def find_quarantined(storage: LocalStorage) -> Sequence[Aside]:
    """Return what lies in quarantine, in the order of names."""
    aside = quarantine_storage(storage)
    found = []
    for name in sorted(aside.entries()):
        saved, path = _believed(aside, name), aside.location(name)
        found.append(Aside(name=MARK.sub("", name), path=path, size=size_below(path), saved=saved))
    return found


def restore(storage: LocalStorage, aside: Aside, *, name: str | None = None, monitor: Monitor | None = None) -> Path:
    """Put *aside* back among the checkpoints as *name*, by default its own, and return where; links follow.

    Raises:
        EntryExistsError: If the name is taken.
        CheckpointNotFoundError: If it is in quarantine no more.
        StorageError: If it cannot be moved.
    """
    target = storage.location(check_name(name or aside.name))
    with storage.lock():
        if os.path.lexists(target):
            msg = f"{target} is there already; restore it under another name with --as"
            raise EntryExistsError(msg)
        with files.failures(aside.path, missing=CheckpointNotFoundError):
            aside.path.rename(target)
            files.sync_directory(target.parent)
        if aside.saved is not None and _was_pinned(_notes(storage), aside.saved.id):
            storage.point(f"{PIN}{target.name}", target.name)
        Shelf(storage, monitor).follow()
    write_note(storage, "restored", name=target.name, id=aside.saved.id if aside.saved else None)
    return target
