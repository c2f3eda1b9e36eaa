"""What happened to checkpoints, one JSON line each: written when it happens, read when somebody asks why."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from mlc_core.errors import CheckpointWarning, StorageError
from mlc_core.records import Monitor
from mlc_core.writer import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import Storage

__all__ = [
    "ENDINGS",
    "Note",
    "highest_sequence",
    "last_id",
    "read_history",
    "remembered_monitor",
    "seen_from",
    "write_note",
]


ENDINGS = {"removed": "removed", "quarantined": "in quarantine"}
"""The events after which a checkpoint is not among the others any more, and what is said of it then."""


@attrs.frozen(kw_only=True)
class Note:
    """One thing that happened."""

    event: str
    """`saved`, `kept`, `removed`, `pinned`, `unpinned`, `quarantined`, `restored`, `repaired` or `monitored`."""
    at: str
    """UTC, ISO 8601. For people."""
    name: str | None = None
    """The checkpoint's name at that time."""
    id: str | None = None
    reason: str | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """Whatever else was written down."""


def write_note(storage: Storage, event: str, *, at: str | None = None, **facts: Any) -> None:
    """Write down that *event* happened; facts that are None are left out.

    Places below the model's directory are written as seen from there: the history moves with the directory. A storage
    that cannot take it warns: no checkpoint is worse for a line that is missing.
    """
    known = {name: seen_from(storage, value) if isinstance(value, str) else value for name, value in facts.items()}
    known = {name: value for name, value in known.items() if value is not None}
    try:
        storage.note(orjson.dumps({"event": event, "at": at or now(), **known}))
    except (StorageError, orjson.JSONEncodeError) as error:
        msg = f"the history in {storage.location('')} was not continued: {error}"
        warnings.warn(msg, CheckpointWarning, stacklevel=3)


def seen_from(storage: Storage, text: str) -> str:
    """Return *text* with places below the model's directory as they are called there."""
    place = storage.location("")
    spellings = {str(place), str(place.absolute())} if isinstance(place, Path) else {place}
    for one in spellings:
        text = re.sub(rf"(?<!\S){re.escape(one.rstrip('/'))}/", "", text)  # not in the middle of another path
    return text


def read_history(storage: Storage, *, last: int | None = None) -> Sequence[Note]:
    """Return what was written down, oldest first, or the *last* of it; lines that are no notes are passed over."""
    return [note for note in map(_read, storage.notes(last)) if note is not None]


def _read(line: bytes) -> Note | None:
    try:
        facts = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(facts, dict):
        return None
    texts = {field: facts.pop(field, None) for field in ("event", "at", "name", "id", "reason")}
    if not all(isinstance(value, (str, type(None))) for value in texts.values()):
        return None
    event, at = texts.pop("event"), texts.pop("at")
    return None if event is None or at is None else Note(event=event, at=at, **texts, facts=facts)


def last_id(notes: Sequence[Note], name: str) -> str | None:
    """Return the id of the checkpoint that is called *name* now, as far as the notes tell, or None.

    It is for one whose manifest cannot be believed: a name is given again only when the one before is gone.
    """
    for note in reversed(notes):
        if note.name == name and note.id is not None:
            return None if note.event in ENDINGS else note.id
    return None


def highest_sequence(notes: Sequence[Note]) -> int:
    """Return the highest commit that was written down, or 0: what was removed or set aside keeps its number."""
    found = [note.facts.get("sequence") for note in notes]
    return max([one for one in found if type(one) is int], default=0)


def remembered_monitor(notes: Sequence[Note]) -> Monitor | None:
    """Return what said which checkpoint is best when training last went on here, or None if nothing did."""
    for note in reversed(notes):
        if note.event == "monitored":
            metric, mode = note.facts.get("metric"), note.facts.get("mode")
            return Monitor(metric=metric, mode=mode) if isinstance(metric, str) and mode in ("min", "max") else None
    return None
