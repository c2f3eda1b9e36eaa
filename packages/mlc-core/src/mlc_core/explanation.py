"""Why a checkpoint was saved, why it is kept, or where it went: its manifest and the history put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.history import ENDINGS, Note, last_id, read_history
from mlc_core.index import Index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import Storage
    from mlc_core.records import Saved

__all__ = ["Explanation", "explain"]


@attrs.frozen(kw_only=True)
class Explanation:
    """What is known of one checkpoint, which may be gone."""

    name: str
    id: str | None
    """None for one whose manifest could not be believed."""
    state: str
    """`there`, `damaged`, `removed`, `in quarantine`, or `gone` where nothing says how."""
    links: tuple[str, ...]
    notes: tuple[Note, ...]


def explain(storage: Storage, wanted: str) -> Sequence[Explanation]:
    """Return what is known of each checkpoint in *storage* that is or was called *wanted*, or whose id begins so.

    *wanted* may be a link. A name can have been given more than once: the ids tell them apart.
    """
    index, notes, pointers = Index(storage), read_history(storage), storage.pointers()
    name = pointers.get(wanted, wanted)
    there = {saved.id: saved for saved in index.saved}
    damaged = {last_id(notes, one) for one in index.damaged}
    nobody = {one for one in index.damaged if last_id(notes, one) is None}
    names = {note.id: note.name or note.id for note in notes if note.id is not None}
    names.update({saved.id: saved.name for saved in index.saved})
    found = []
    for key, called in names.items():
        if called != name and not key.startswith(wanted):
            continue
        own = tuple(note for note in notes if note.id == key)
        saved = there.get(key)
        state = "there" if saved else "damaged" if key in damaged else _state(own)
        if saved is not None and not any(note.event == "saved" for note in own):
            own = (_saved(saved), *own)
        links = _links(pointers, called) if saved or key in damaged else ()
        found.append(Explanation(name=called, id=key, state=state, links=links, notes=own))
    nameless = tuple(note for note in notes if note.id is None and note.name == name)
    if nameless or name in nobody:
        state = "damaged" if name in nobody else _state(nameless)
        found.append(Explanation(name=name, id=None, state=state, links=_links(pointers, name), notes=nameless))
    return found


def _links(pointers: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(link for link, entry in pointers.items() if entry == name)


def _saved(saved: Saved) -> Note:
    return Note(event="saved", at=saved.created_at, name=saved.name, id=saved.id, reason="; ".join(saved.reasons))


def _state(notes: Sequence[Note]) -> str:
    """Return how it went, by the last note that can tell; one that was restored later went some other way."""
    last = next((note.event for note in reversed(notes) if note.event in {*ENDINGS, "restored", "kept"}), "")
    return ENDINGS.get(last, "gone")
