"""What repair would do to the checkpoints of one model, and what it cannot mend. Looks, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import xxhash

from mlc_core.errors import CheckpointNotFoundError, CorruptCheckpointError, StorageError
from mlc_core.naming import MANIFEST
from mlc_core.reader import CheckpointReader
from mlc_core.records import FileRecord
from mlc_core.recovery.examination import Damage, Examined, examine, read_saved
from mlc_core.recovery.leftovers import find_leftovers
from mlc_core.recovery.links import plan_links
from mlc_core.recovery.quarantine import quarantine_storage
from mlc_core.recovery.repairs import FileRepair, LeftoverRepair, QuarantineRepair, Repair
from mlc_core.recovery.sources import Source, Sources
from mlc_hooks.console import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor, Saved
    from mlc_core.storage import LocalStorage

__all__ = ["Plan", "Repair", "plan_repairs"]


@attrs.frozen(kw_only=True)
class Plan:
    """What can be done, in the order in which it is to be done, and what cannot."""

    repairs: tuple[Repair, ...]
    hopeless: tuple[Examined, ...]
    """Corrupt checkpoints that nothing here or in the copies can mend, or that could not be read."""


def plan_repairs(
    storage: LocalStorage,
    *,
    name: str | None = None,
    copies: Sequence[Storage] = (),
    monitor: Monitor | None = None,
    set_aside: bool = False,
    now: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Plan:
    """Return what there is to repair in *storage*.

    Args:
        storage: The checkpoints of one model.
        name: One of them; then links and leftovers are left alone.
        copies: Other places where the content of a lost file may be.
        monitor: What says which checkpoint `best` is; without, `best` is only removed where it leads nowhere.
        set_aside: Quarantine what is corrupt and cannot be mended.
        now: Delete leftovers of the dead without waiting for the grace period.
        advance: Told the bytes of each file that was read.
    """
    tokens = storage.entries()
    sources = Sources([storage, quarantine_storage(storage), *copies])
    there: list[Saved] = []
    repairs: list[Repair] = []
    asides: list[Repair] = []
    hopeless: list[Examined] = []
    names = set(tokens)
    if name is not None and name not in tokens:
        msg = f"{storage.location(name)} is called as no checkpoint here is; rename it, and repair it then"
        raise CheckpointNotFoundError(msg)
    for entry in sorted(tokens) if name is None else [name]:
        examined = examine(storage, entry, advance)
        if examined is None:
            names.discard(entry)
            continue
        mended, saved = _mend(storage, examined, tokens[entry], sources, copies)
        certain = examined.corrupt and len(mended) < len(examined.damages)
        if certain and set_aside:
            asides.append(QuarantineRepair(name=entry, wrong=str(examined.cause), monitor=monitor))
            names.discard(entry)
            continue
        repairs += mended
        if saved is not None:
            there.append(saved)
        if len(mended) < len(examined.damages):
            hopeless.append(examined)
    repairs += asides  # last: a file of one that goes may be the sound copy of another's
    if name is None:
        repairs += plan_links(storage, there, names, monitor)
        repairs += _leftovers(storage, now=now)
    return Plan(repairs=tuple(repairs), hopeless=tuple(hopeless))


def _mend(
    storage: LocalStorage, examined: Examined, token: str, sources: Sources, copies: Sequence[Storage]
) -> tuple[Sequence[FileRepair], Saved | None]:
    """Return a repair for each damage that can be mended, and what the manifest will say."""
    saved = examined.saved
    if saved is None:
        repair = _mend_manifest(storage, examined, token, copies)
        return ([], None) if repair is None else ([repair], repair.saved)
    records = {record.name: record for record in saved.files}
    found = []
    for damage in examined.damages:
        source = sources.find(records[damage.file])
        if source is not None:
            found.append(_repair(saved, records[damage.file], source, damage, token))
    return found, saved


def _repair(saved: Saved, record: FileRecord, source: Source, damage: Damage, token: str) -> FileRepair:
    return FileRepair(saved=saved, record=record, source=source, wrong=damage.cause, token=token)


def _mend_manifest(
    storage: LocalStorage, examined: Examined, token: str, copies: Sequence[Storage]
) -> FileRepair | None:
    """Take the manifest of the same name from a copy, if every file that it lists is here and sound."""
    for copy in copies:
        try:
            saved = read_saved(copy, examined.name)
            CheckpointReader(storage, saved).verify()
            manifest = copy.read(examined.name, MANIFEST)
        except (FileNotFoundError, CorruptCheckpointError, StorageError):
            continue
        digest = xxhash.xxh3_128_hexdigest(manifest)
        record = FileRecord(name=MANIFEST, size=len(manifest), xxh3_128=digest, serializer="json")
        return _repair(saved, record, Source(copy, examined.name, MANIFEST), examined.damages[0], token)
    return None


def _leftovers(storage: LocalStorage, *, now: bool) -> Sequence[Repair]:
    words = {"staging": "a save that was interrupted", "trash": "a removal that was interrupted"}
    return [
        LeftoverRepair(leftover=one, wrong=f"{words[one.kind]}, {human_size(one.size)}")
        for one in find_leftovers(storage, now=now)
        if one.state == "abandoned"
    ]
