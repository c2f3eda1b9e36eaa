"""What transactions write, each on the connection of the transaction that it is part of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, update

from mlc_registry.errors import RemovedVersionError
from mlc_registry.metadata import encode_metadata
from mlc_registry.stores import queries, tables
from mlc_registry.stores.ledger import append_line
from mlc_registry.stores.prepared import ask
from mlc_registry.tags import check_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from mlc_registry.semver.versions import Version

__all__ = [
    "mark_removed",
    "mark_yanked",
    "point_stage",
    "tell_time",
    "write_tags",
]


def write_tags(
    connection: Connection,
    tags: Mapping[str, str | None],
    there: Mapping[str, str],
    *,
    model_id: int,
    after_id: int,
    actor: str,
    reason: str,
    at: int,
) -> None:
    """Set what in *tags* differs from what is *there*, and write one line of history about it, if it is anything."""
    changed = {key: value for key, value in tags.items() if there.get(key) != value}
    if not changed:
        return
    gone = [key for key in changed if key in there]
    if gone:
        connection.execute(delete(tables.tag).where(tables.tag.c.version_id == after_id, tables.tag.c.key.in_(gone)))
    rows = [{"version_id": after_id, "key": key, "value": value} for key, value in changed.items() if value is not None]
    if rows:
        connection.execute(insert(tables.tag), rows)
    append_line(
        connection,
        model_id=model_id,
        kind="tagged",
        after_id=after_id,
        actor=actor,
        reason=reason,
        at=at,
        details=encode_metadata(changed),
    )


def mark_yanked(connection: Connection, model: str, version: Version, *, yanked: bool, actor: str, reason: str) -> bool:
    """Mark *version* and write its line of history, unless it is marked so already, for that reason.

    Return whether it is there. A version that was removed keeps its reason.

    Raises:
        RemovedVersionError: If it is not to be yanked any more, and was removed.
    """
    check_line(actor=actor, reason=reason)
    there = ask(connection, queries.IDS, model=model, key=version.key)
    if not there:
        return False
    model_id, version_id, was_yanked, is_removed, old_reason = there[0]
    if is_removed and not yanked:
        msg = f"{model} {version} was removed, and its files are gone: it stays yanked; publish them as another version"
        raise RemovedVersionError(msg)
    is_for_another = yanked and not is_removed and reason != old_reason
    if bool(was_yanked) != yanked or is_for_another:
        of_version = tables.version.c.id == version_id
        kept = reason if yanked else ""
        connection.execute(update(tables.version).where(of_version).values(yanked=yanked, yank_reason=kept))
        append_line(
            connection,
            model_id=model_id,
            kind="yanked" if yanked else "unyanked",
            after_id=version_id,
            actor=actor,
            reason=reason,
            at=tell_time(),
        )
    return True


def mark_removed(connection: Connection, version_id: int, *, reason: str) -> None:
    """Mark a version as removed and as yanked."""
    check_line(reason=reason)
    gone = {"yanked": True, "yank_reason": reason, "removed": True}
    connection.execute(update(tables.version).where(tables.version.c.id == version_id).values(gone))


def point_stage(
    connection: Connection,
    model: str,
    stage: str,
    version: Version,
    *,
    kind: str,
    actor: str,
    reason: str,
    details: str = "",
) -> None:
    """Point *stage* to *version*, which exists, and write the line of history; "demoted" lets it point to nothing."""
    check_line(actor=actor, reason=reason)
    at = tell_time()
    model_id, version_id, *_ = ask(connection, queries.IDS, model=model, key=version.key)[0]
    pointer = tables.stage.c
    of_stage = (pointer.model_id == model_id) & (pointer.name == stage)
    before_id = connection.execute(tables.stage.select().with_only_columns(pointer.version_id).where(of_stage)).scalar()
    facts = {"version_id": version_id, "actor": actor, "reason": reason, "at": at}
    if kind == "demoted":
        connection.execute(delete(tables.stage).where(of_stage))
    elif before_id is None:
        connection.execute(insert(tables.stage).values(model_id=model_id, name=stage, **facts))
    else:
        connection.execute(update(tables.stage).where(of_stage).values(facts))
    append_line(
        connection,
        model_id=model_id,
        kind=kind,
        stage=stage,
        before_id=before_id,
        after_id=version_id,
        actor=actor,
        reason=reason,
        at=at,
        details=details,
    )


def tell_time() -> int:
    """Return the microseconds since 1970 began."""
    return time.time_ns() // 1000
