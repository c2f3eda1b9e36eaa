"""What transactions write, each on the connection of the transaction that it is part of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from mlc_registry.errors import InvalidNameError
from mlc_registry.metadata import encode_metadata
from mlc_registry.stores import queries, tables
from mlc_registry.stores.ledger import append_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select, Table

    from mlc_registry.records import Draft
    from mlc_registry.versions import Version

__all__ = ["ask", "ensure_model", "insert_version", "mark_yanked", "point_stage"]


STATEMENTS = {table.name: (select(func.max(table.c.id)), insert(table)) for table in (tables.model, tables.version)}
INSERT_FILES = insert(tables.file)


def ask(connection: Connection, statement: Select[Any], **values: object) -> Sequence[Sequence[Any]]:
    """Return all rows that answer *statement* within the transaction."""
    return connection.execute(statement, values).fetchall()


def ensure_model(connection: Connection, name: str) -> int:
    """Return the id of the model *name*, made if it is new.

    Raises:
        InvalidNameError: If it is new and differs from another model in case only.
    """
    there = ask(connection, queries.FOLDED_NAME, folded=name.lower())
    if not there:
        return _insert(connection, tables.model, name=name)
    found_id, found = there[0]
    if found != name:
        msg = f"there is a model {found!r} already, and {name!r} differs from it in case only"
        raise InvalidNameError(msg)
    return int(found_id)


def insert_version(connection: Connection, model_id: int, draft: Draft) -> None:
    """Write *draft* with its files and its line of history."""
    at = _now()
    version_id = _insert(
        connection,
        tables.version,
        model_id=model_id,
        version=str(draft.version),
        sort_key=draft.version.key,
        prerelease=draft.version.is_prerelease,
        digest=draft.digest,
        size=sum(one.size for one in draft.files),
        directory=draft.directory,
        entry=draft.entry,
        metadata=encode_metadata(draft.metadata),
        description=draft.description,
        created_at=at,
        created_by=draft.created_by,
        yanked=False,
        yank_reason="",
    )
    files = [
        {"version_id": version_id, "path": one.path, "size": one.size, "digest": one.digest} for one in draft.files
    ]
    connection.execute(INSERT_FILES, files)
    append_line(
        connection,
        model_id=model_id,
        kind="registered",
        after_id=version_id,
        actor=draft.created_by,
        reason=draft.description,
        at=at,
    )


def mark_yanked(connection: Connection, model: str, version: Version, *, yanked: bool, actor: str, reason: str) -> bool:
    """Mark *version* and write its line of history, unless it is marked so already; return whether it is there."""
    there = ask(connection, queries.IDS, model=model, key=version.key)
    if not there:
        return False
    model_id, version_id, was_yanked = there[0]
    if bool(was_yanked) != yanked:
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
            at=_now(),
        )
    return True


def point_stage(
    connection: Connection, model: str, stage: str, version: Version, *, kind: str, actor: str, reason: str
) -> None:
    """Point *stage* to *version*, which exists, and write the line of history."""
    at = _now()
    model_id, version_id, _ = ask(connection, queries.IDS, model=model, key=version.key)[0]
    pointer = tables.stage.c
    of_stage = (pointer.model_id == model_id) & (pointer.name == stage)
    before_id = connection.execute(tables.stage.select().with_only_columns(pointer.version_id).where(of_stage)).scalar()
    facts = {"version_id": version_id, "actor": actor, "reason": reason, "at": at}
    if before_id is None:
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
    )


def _insert(connection: Connection, table: Table, **values: object) -> int:
    # The next number, not one of a sequence: writers take turns, and a number that is left out would be a riddle.
    highest, new = STATEMENTS[table.name]
    number = int(connection.execute(highest).scalar() or 0) + 1
    connection.execute(new, {"id": number, **values})
    return number


def _now() -> int:
    return time.time_ns() // 1000
