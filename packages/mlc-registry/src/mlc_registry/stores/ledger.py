"""The history in its table: each line sealed as it is written, and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, insert, select

from mlc_registry.history.chain import START, seal
from mlc_registry.records import Line
from mlc_registry.stores.prepared import ask, tell
from mlc_registry.stores.queries import read_time
from mlc_registry.stores.tables import change, model, version
from mlc_registry.stores.verification import verify
from mlc_registry.tags import check_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from mlc_registry.records import Audited
    from mlc_registry.stores.reader import Reader

__all__ = ["SqlLedger", "append_line", "seal_line"]

ALL = 2**63 - 1
before, after = version.alias("before"), version.alias("after")
INSERT = insert(change)
LAST = select(change.c.id, change.c.digest).order_by(change.c.id.desc()).limit(1)
ABOUT = (
    select(model.c.name, version.c.version, version.c.digest)
    .join_from(version, model, model.c.id == version.c.model_id)
    .where(version.c.id == bindparam("version_id"))
)
LINES = (
    select(
        change.c.id,
        model.c.name,
        change.c.kind,
        change.c.stage,
        before.c.version,
        after.c.version,
        change.c.content,
        change.c.actor,
        change.c.reason,
        change.c.at,
        change.c.details,
        change.c.digest,
    )
    .outerjoin_from(change, model, model.c.id == change.c.model_id)
    .outerjoin(after, after.c.id == change.c.after_id)
    .outerjoin(before, before.c.id == change.c.before_id)
    .where(change.c.id > bindparam("last"))
    .order_by(change.c.id)
    .limit(bindparam("limit", type_=BigInteger))
)


def append_line(
    connection: Connection,
    *,
    model_id: int | None,
    kind: str,
    stage: str = "",
    before_id: int | None = None,
    after_id: int | None,
    actor: str,
    reason: str,
    at: int,
    details: str = "",
) -> None:
    """Write the next line of history, within the transaction that does what it tells of.

    Without *model_id* and *after_id* it is about the registry itself.

    Raises:
        InvalidMetadataError: If *actor* or *reason* is too large, or holds what no database can keep.
    """
    check_line(actor=actor, reason=reason)
    name, new, content = ("", "", "")
    if after_id is not None:
        name, new, content = ask(connection, ABOUT, version_id=after_id)[0]
    old = None if before_id is None else ask(connection, ABOUT, version_id=before_id)[0][1]
    line = seal_line(
        _read_head(ask(connection, LAST)),
        model=name,
        model_id=model_id,
        kind=kind,
        stage=stage,
        before=old,
        before_id=before_id,
        after=new,
        after_id=after_id,
        content=content,
        actor=actor,
        reason=reason,
        at=at,
        details=details,
    )
    tell(connection, INSERT, [line])


def seal_line(
    head: tuple[int, str],
    *,
    model: str,
    model_id: int | None,
    before: str | None = None,
    before_id: int | None = None,
    after: str,
    after_id: int | None,
    stage: str = "",
    **kept: str | int,
) -> dict[str, Any]:
    """Return the row of the line that follows the one with the number and the digest *head*."""
    number, previous = head
    kept = {**kept, "stage": stage, "id": number + 1}
    digest = seal(previous, {**kept, "model": model, "before": before, "after": after})
    return {**kept, "model_id": model_id, "before_id": before_id, "after_id": after_id, "digest": digest}


class SqlLedger:
    """A `Ledger` in tables."""

    def __init__(self, reader: Reader, snapshot: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._reader = reader
        self._snapshot = snapshot

    def read_lines(self, *, after: int = 0, limit: int | None = None) -> Sequence[Line]:
        """Return the lines behind number *after* in order, at most *limit*."""
        rows = self._reader.ask(LINES, {"last": after, "limit": ALL if limit is None else limit})
        return tuple(map(_read_line, rows))

    def read_head(self) -> tuple[int, str]:
        """Return the number and the digest of the last line; 0 and `chain.START` if there is none."""
        return _read_head(self._reader.ask(LAST, {}))

    def verify(self, *, expected_head: str | None = None) -> Audited:
        """Compute everything anew, as of one moment, and compare.

        Raises:
            AuditError: If anything is not as the history says, or no line has the digest *expected_head*.
        """
        with self._snapshot() as connection:
            return verify(connection, expected_head=expected_head)


def _read_head(rows: Sequence[Sequence[Any]]) -> tuple[int, str]:
    for number, digest in rows:
        return int(number), str(digest)
    return 0, START


def _read_line(row: Sequence[Any]) -> Line:
    number, name, kind, stage, old, new, content, actor, reason, at, details, digest = row
    return Line(
        number=number,
        model=name or "",
        kind=kind,
        stage=stage,
        before=old,
        after=new or "",
        content=content,
        actor=actor,
        reason=reason,
        at=read_time(at),
        details=details,
        digest=digest,
    )
