"""Is everything as the history says? Each line is sealed anew, and what the lines tell is compared with the tables."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NoReturn
from unicodedata import ucd_3_2_0

import attrs
import orjson
from sqlalchemy import Integer, bindparam, func, select

from mlc_registry.artifacts.digests import root_digest
from mlc_registry.errors import AuditError
from mlc_registry.facts import digest_facts
from mlc_registry.history.chain import START, seal
from mlc_registry.records import Audited, File
from mlc_registry.semver.versions import Version
from mlc_registry.stores.derived import list_found, list_words, read_found
from mlc_registry.stores.tables import change, file, model, stage, tag, version, word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

__all__ = ["verify"]

PAGE = 1000
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
before, after = version.alias("before"), version.alias("after")
# Outer joins, so that a line stays in sight when what it tells of is gone.
LINES = (
    select(
        change.c.id,
        func.coalesce(model.c.name, "").label("model"),
        change.c.kind,
        change.c.stage,
        before.c.version.label("before"),
        func.coalesce(after.c.version, "").label("after"),
        change.c.content,
        change.c.actor,
        change.c.reason,
        change.c.at,
        change.c.details,
        change.c.digest,
        change.c.model_id,
        change.c.after_id,
        after.c.model_id.label("after_model_id"),
        before.c.model_id.label("before_model_id"),
    )
    .select_from(change)
    .outerjoin(model, model.c.id == change.c.model_id)
    .outerjoin(after, after.c.id == change.c.after_id)
    .outerjoin(before, before.c.id == change.c.before_id)
    .where(change.c.id > bindparam("last"))
    .order_by(change.c.id)
    .limit(bindparam("page", type_=Integer))
)
SEALED = ("id", "model", "kind", "stage", "before", "after", "content", "actor", "reason", "at", "details")
VERSIONS = (
    select(
        version.c.id,
        model.c.name,
        version.c.version,
        version.c.sort_key,
        version.c.prerelease,
        version.c.digest,
        version.c.size,
        version.c.metadata,
        version.c.description,
        version.c.entry,
        version.c.facts,
        version.c.created_at,
        version.c.created_by,
        version.c.yanked,
        version.c.yank_reason,
        version.c.removed,
    )
    .outerjoin_from(version, model, model.c.id == version.c.model_id)
    .order_by(version.c.id)
)
FILES = select(file.c.version_id, file.c.path, file.c.size, file.c.digest).order_by(file.c.version_id, file.c.path)
STAGES = select(stage.c.model_id, stage.c.name, stage.c.version_id, stage.c.actor, stage.c.reason, stage.c.at)
TAGS = select(tag.c.version_id, tag.c.key, tag.c.value).order_by(tag.c.version_id)
WORDS = select(word.c.version_id, word.c.word).order_by(word.c.version_id)
NAMES = select(model.c.id, model.c.name)
STATED = {"approved", "withdrawn", "signed", "configured"}
"""Lines that are all there is of what they say."""


@attrs.define
class _Told:
    """What the lines so far say."""

    lines: int = 0
    head: str = START
    last: int = 0
    registered: dict[int, tuple[str, str, int, str]] = attrs.field(factory=dict)
    """Of each version its digest, that of its facts, and when and by whom it was published."""
    yanked: dict[int, str] = attrs.field(factory=dict)
    """The reason for each that is."""
    removed: set[int] = attrs.field(factory=set)
    tags: dict[int, dict[str, str]] = attrs.field(factory=dict)
    notes: dict[int, str] = attrs.field(factory=dict)
    """The last edition for each version that has one."""
    stages: dict[tuple[int, str], tuple[int, str, str, int]] = attrs.field(factory=dict)
    """Of each stage the version that it points to, and by whom, why and when it was moved there."""

    def hear(self, row: Any) -> None:
        """Take in the next line."""
        self._refuse_others(row)
        if row.kind == "registered":
            self.registered[row.after_id] = (row.content, row.details, row.at, row.actor)
        elif row.kind in {"yanked", "removed"}:
            self.yanked[row.after_id] = row.reason
            self.removed.update([row.after_id] if row.kind == "removed" else [])
        elif row.kind == "unyanked":
            self.yanked.pop(row.after_id, None)
        elif row.kind in {"promoted", "rolled back"}:
            self.stages[row.model_id, row.stage] = (row.after_id, row.actor, row.reason, row.at)
        elif row.kind == "demoted":
            self.stages.pop((row.model_id, row.stage), None)
        elif row.kind == "tagged":
            self._hear_tags(row)
        elif row.kind == "noted":
            self.notes[row.after_id] = row.details
        elif row.kind not in STATED:
            self._refuse(row, "is of a kind that no registry writes")
        self.lines, self.head, self.last = self.lines + 1, row.digest, row.id

    def _refuse_others(self, row: Any) -> None:
        """Refuse a line that tells of another version than it did: names are sealed, and the ids of rows are not."""
        models = {row.after_model_id, row.model_id if row.before is None else row.before_model_id}
        if models != {row.model_id}:
            self._refuse(row, "tells of a version of another model")
        if row.after_id is None or row.kind == "registered":
            return
        if row.content != self.registered.get(row.after_id, ("",))[0]:
            self._refuse(row, "tells of other content than was registered")

    def _hear_tags(self, row: Any) -> None:
        try:
            changed = dict(orjson.loads(row.details))
        except (TypeError, ValueError):
            self._refuse(row, "does not say which tags were set")
        kept = {**self.tags.get(row.after_id, {}), **changed}
        self.tags[row.after_id] = {key: value for key, value in kept.items() if value is not None}

    def _refuse(self, row: Any, why: str) -> NoReturn:
        msg = f"the history was changed: line {row.id} ({row.kind} {row.model} {row.after}, by {row.actor}) {why}"
        raise AuditError(msg, line=row.id)


def verify(connection: Connection, *, expected_head: str | None = None) -> Audited:
    """Read the whole registry within the transaction of *connection*, and compare it with its history.

    Raises:
        AuditError: If anything is not as the history says, or no line has the digest *expected_head*.
    """
    if expected_head is not None and DIGEST.fullmatch(expected_head) is None:
        msg = f"{expected_head!r} is no head: that is sha256: and 64 hexadecimal digits, as an earlier audit printed it"
        raise AuditError(msg)
    told = _Told()
    was_seen = expected_head in {None, START}
    for row in _read(connection):
        if row.digest != _seal(told.head, row):
            _explain(connection, told, row)
        told.hear(row)
        was_seen = was_seen or row.digest == expected_head
    if not was_seen:
        msg = (
            f"no line has the digest {expected_head}, which was noted as the head: the {told.lines:,} lines that are "
            "there fit together, but later ones were cut off, or all of them were written anew"
        )
        raise AuditError(msg)
    _compare_versions(connection, told)
    _compare_words(connection, told)
    _compare_stages(connection, told)
    return Audited(lines=told.lines, versions=len(told.registered), head=told.head)


def _read(connection: Connection) -> Iterator[Any]:
    last = -1
    while rows := connection.execute(LINES, {"last": last, "page": PAGE}).all():
        yield from rows
        last = rows[-1].id


def _seal(previous: str, row: Any, **instead: int) -> str:
    return seal(previous, {**{name: getattr(row, name) for name in SEALED}, **instead})


def _explain(connection: Connection, told: _Told, row: Any) -> NoReturn:
    number = told.last + 1
    if row.id > number:
        lines = f"line {number} is" if row.id == number + 1 else f"lines {number} to {row.id - 1} are"
        msg = f"the history was changed: {lines} missing"
        raise AuditError(msg, line=number)
    why = "was edited after it was written, or put in the place of another"
    for later in _read(connection):
        if later.id > number and later.digest == _seal(told.head, later, id=number):
            why = f"is in the place of line {later.id}: lines were reordered"
            break
    msg = f"the history was changed: line {row.id} ({row.kind} {row.model} {row.after}, by {row.actor}) {why}"
    raise AuditError(msg, line=row.id)


def _compare_versions(connection: Connection, told: _Told) -> None:
    files = {
        number: [File(row.path, row.size, row.digest) for row in rows]
        for number, rows in groupby(connection.execute(FILES), key=lambda row: row.version_id)
    }
    found = read_found(connection)
    for row in connection.execute(VERSIONS):
        what = f"{row.name} {row.version}"
        if row.id not in told.registered:
            _refuse(what, "is there, but no line of the history registered it")
        _compare_version(what, row, told.registered[row.id], files.pop(row.id, []))
        _compare_state(what, row, told)
        if found.pop(row.id, set()) != list_found(row.facts, row.metadata):
            _refuse(what, "is found by other metrics, dependencies or data than were registered")
    _compare_tags(connection, told)


def _compare_version(what: str, row: Any, registered: tuple[str, str, int, str], files: Sequence[File]) -> None:
    content, facts, at, actor = registered
    if row.digest != content:
        _refuse(what, f"has the digest {row.digest}, but {content} was registered")
    if not files or root_digest(files) != content:
        _refuse(what, "has other files than were registered")
    if row.size != sum(one.size for one in files):
        _refuse(what, "has another size than its files")
    if _digest_facts(row) != facts:
        _refuse(what, "says other things about itself than were registered, in its metadata or beside them")
    if (row.created_at, row.created_by) != (at, actor):
        _refuse(what, "was registered at another time, or by somebody else")
    number = Version.parse(row.version)
    if number.key != row.sort_key or number.is_prerelease != bool(row.prerelease):
        _refuse(what, "is sorted as another version would be")


def _compare_state(what: str, row: Any, told: _Told) -> None:
    if bool(row.yanked) != (row.id in told.yanked):
        is_now = "is" if row.yanked else "is not"
        _refuse(what, f"{is_now} yanked, which the history does not say")
    if row.yank_reason != told.yanked.get(row.id, ""):
        _refuse(what, f"is yanked for the reason {row.yank_reason!r}, which the history does not say")
    if bool(row.removed) != (row.id in told.removed):
        is_now = "is" if row.removed else "is not"
        _refuse(what, f"{is_now} removed, which the history does not say")


def _digest_facts(row: Any) -> str:
    return digest_facts(metadata=row.metadata, description=row.description, entry=row.entry, facts=row.facts)


def _compare_tags(connection: Connection, told: _Told) -> None:
    wanted = {number: tags for number, tags in told.tags.items() if tags}
    for number, rows in groupby(connection.execute(TAGS), key=lambda row: row.version_id):
        found = {row.key: row.value for row in rows}
        expected = wanted.pop(number, {})
        if found != expected:
            _refuse_tags(connection, number, min(set(found.items()) ^ set(expected.items()))[0])
    for number, tags in wanted.items():
        _refuse_tags(connection, number, min(tags))


def _compare_words(connection: Connection, told: _Told) -> None:
    groups = groupby(connection.execute(WORDS), key=lambda row: row.version_id)
    number, found = next(groups, (None, ()))
    for row in connection.execute(VERSIONS):
        there: set[str] = set()
        if number == row.id:
            there = {one.word for one in found}
            number, found = next(groups, (None, ()))
        tags, notes = told.tags.get(row.id, {}), told.notes.get(row.id, "")
        differing = there ^ list_words(row.name, row.description, row.facts, tags, notes)
        if any(map(_is_old, differing)):
            _refuse(f"{row.name} {row.version}", "is found by other words than are said of it")


def _is_old(text: str) -> bool:
    """Say whether all Pythons agree which characters of *text* are letters, as of those of a Unicode this old."""
    return all(ucd_3_2_0.category(one) != "Cn" for one in text)


def _refuse_tags(connection: Connection, number: int, key: str) -> NoReturn:
    rows = connection.execute(VERSIONS.where(version.c.id == number)).all()
    what = f"{rows[0].name} {rows[0].version}" if rows else "a version that is not there"
    _refuse(f"tag {key!r} of {what}", "was set or taken off, which the history does not say")


def _compare_stages(connection: Connection, told: _Told) -> None:
    found = {
        (one.model_id, one.name): (one.version_id, one.actor, one.reason, one.at) for one in connection.execute(STAGES)
    }
    for key in sorted(found.keys() | told.stages.keys()):
        if found.get(key) != told.stages.get(key):
            name = {one.id: one.name for one in connection.execute(NAMES)}.get(key[0], "no model")
            _refuse(f"stage {key[1]!r} of {name}", "was moved, or by somebody else, which the history does not say")


def _refuse(what: str, why: str) -> NoReturn:
    msg = f"the registry was changed behind its history: {what} {why}"
    raise AuditError(msg)
