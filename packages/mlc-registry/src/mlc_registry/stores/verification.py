"""Is everything as the history says? Each line is sealed anew, and what the lines tell is compared with the tables."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
from sqlalchemy import Integer, bindparam, select

from mlc_registry.chain import START, seal
from mlc_registry.digests import root_digest
from mlc_registry.errors import AuditError
from mlc_registry.records import Audited, File
from mlc_registry.stores.tables import change, file, model, stage, version
from mlc_registry.versions import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

__all__ = ["verify"]

PAGE = 1000
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
before, after = version.alias("before"), version.alias("after")
# Outer joins, so that a line stays in sight when what it tells of is gone.
LINES = (
    select(
        change.c.id,
        model.c.name.label("model"),
        change.c.kind,
        change.c.stage,
        before.c.version.label("before"),
        after.c.version.label("after"),
        change.c.content,
        change.c.actor,
        change.c.reason,
        change.c.at,
        change.c.digest,
        change.c.model_id,
        change.c.after_id,
    )
    .select_from(change)
    .outerjoin(model, model.c.id == change.c.model_id)
    .outerjoin(after, after.c.id == change.c.after_id)
    .outerjoin(before, before.c.id == change.c.before_id)
    .where(change.c.id > bindparam("last"))
    .order_by(change.c.id)
    .limit(bindparam("page", type_=Integer))
)
SEALED = ("id", "model", "kind", "stage", "before", "after", "content", "actor", "reason", "at")
VERSIONS = select(
    version.c.id, model.c.name, version.c.version, version.c.sort_key, version.c.digest, version.c.yanked
).outerjoin_from(version, model, model.c.id == version.c.model_id)
FILES = select(file.c.version_id, file.c.path, file.c.size, file.c.digest).order_by(file.c.version_id, file.c.path)
STAGES = select(stage.c.model_id, stage.c.name, stage.c.version_id)
NAMES = select(model.c.id, model.c.name)


@attrs.define
class _Told:
    """What the lines so far say."""

    lines: int = 0
    head: str = START
    last: int = 0
    contents: dict[int, str] = attrs.field(factory=dict)
    yanked: set[int] = attrs.field(factory=set)
    stages: dict[tuple[int, str], int] = attrs.field(factory=dict)

    def hear(self, row: Any) -> None:
        """Take in the next line."""
        if row.kind == "registered":
            self.contents[row.after_id] = row.content
        elif row.kind == "yanked":
            self.yanked.add(row.after_id)
        elif row.kind == "unyanked":
            self.yanked.discard(row.after_id)
        else:
            self.stages[row.model_id, row.stage] = row.after_id
        self.lines, self.head, self.last = self.lines + 1, row.digest, row.id


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
    _compare_stages(connection, told)
    return Audited(lines=told.lines, versions=len(told.contents), head=told.head)


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
        number: root_digest([File(row.path, row.size, row.digest) for row in rows])
        for number, rows in groupby(connection.execute(FILES), key=lambda row: row.version_id)
    }
    for number, name, text, key, digest, yanked in connection.execute(VERSIONS):
        content = told.contents.get(number)
        if content is None:
            _refuse(f"{name} {text}", "is there, but no line of the history registered it")
        if digest != content:
            _refuse(f"{name} {text}", f"has the digest {digest}, but {content} was registered")
        if files.get(number) != content:
            _refuse(f"{name} {text}", "has other files than were registered")
        if Version.parse(text).key != key:
            _refuse(f"{name} {text}", "is sorted as another version would be")
        if bool(yanked) != (number in told.yanked):
            is_now = "is" if yanked else "is not"
            _refuse(f"{name} {text}", f"{is_now} yanked, which the history does not say")


def _compare_stages(connection: Connection, told: _Told) -> None:
    found = {(one.model_id, one.name): one.version_id for one in connection.execute(STAGES)}
    for key in sorted(found.keys() | told.stages.keys()):
        if found.get(key) != told.stages.get(key):
            name = {one.id: one.name for one in connection.execute(NAMES)}.get(key[0], "no model")
            _refuse(f"stage {key[1]!r} of {name}", "was moved, which the history does not say")


def _refuse(what: str, why: str) -> NoReturn:
    msg = f"the registry was changed behind its history: {what} {why}"
    raise AuditError(msg)
