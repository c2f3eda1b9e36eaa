"""What is said about versions after they were published, in the history and in the table of tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

from sqlalchemy import bindparam, select

from mlc_registry.errors import PolicyConflictError, StageConflictError, VersionNotFoundError
from mlc_registry.stores import derived, queries, writes
from mlc_registry.stores.ledger import LAST, append_line
from mlc_registry.stores.prepared import ask
from mlc_registry.stores.tables import change, stage, tag, version
from mlc_registry.tags import check_tags, check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from mlc_registry.records import Change, ModelVersion
    from mlc_registry.semver.versions import Version
    from mlc_registry.stores.reader import Reader

__all__ = ["SqlStatements"]

MOST_KINDS = 12
"""All there are of a version."""
LAST_STATED = queries.CHANGES_OF_VERSION.order_by(None).order_by(change.c.id.desc()).limit(1)
STATED = queries.CHANGES_OF_VERSION.where(change.c.kind.in_([bindparam(f"kind{one}") for one in range(MOST_KINDS)]))
STATED_OF_STAGE = STATED.where(change.c.stage == bindparam("stage"))
STAGES = select(stage.c.name).where(stage.c.version_id == bindparam("version_id")).order_by(stage.c.name)
TAGS = (
    select(tag.c.key, tag.c.value)
    .where(tag.c.version_id == select(version.c.id).where(queries.OF_MODEL, queries.KEY).scalar_subquery())
    .order_by(tag.c.key)
)
POLICY = (
    select(change.c.details)
    .where(change.c.after_id.is_(None), change.c.kind == "configured")
    .order_by(change.c.id.desc())
    .limit(1)
)


class SqlStatements:
    """`Statements` in tables."""

    def __init__(self, reader: Reader, transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._reader = reader
        self._transaction = transaction

    def state(
        self,
        model: str,
        version: Version,
        *,
        kind: Literal["noted", "approved", "withdrawn", "signed"],
        details: str = "",
        stage: str = "",
        actor: str,
        reason: str = "",
    ) -> Change:
        """Keep one statement, and return it as it was kept.

        Raises:
            VersionNotFoundError: If the version is not there.
            InvalidMetadataError: If *details* are too large, or cannot be kept as text.
        """
        check_text(details, f"what is {kind}")
        with self._transaction() as connection:
            found = _find(connection, model, version)
            at = writes.tell_time()
            append_line(connection, **found, kind=kind, stage=stage, actor=actor, reason=reason, at=at, details=details)
            if kind == "noted":
                derived.refresh_words(connection, found["after_id"])
            rows = ask(connection, LAST_STATED, model=model, key=version.key)
        return queries.read_change(model, rows[0])

    def list_all(
        self, model: str, version: Version, *, kinds: Sequence[str], stage: str | None = None
    ) -> Sequence[Change]:
        """Return what was stated about a version, in that order.

        Raises:
            VersionNotFoundError: If it is not there.
        """
        asked = {"model": model, "key": version.key, **_name_kinds(kinds)}
        if stage is None:
            rows = self._reader.ask(STATED, asked)
        else:
            rows = self._reader.ask(STATED_OF_STAGE, {**asked, "stage": stage})
        return tuple(queries.read_change(model, row) for row in rows) or self._explain_nothing(model, version)

    def set_tags(
        self, model: str, version: Version, tags: Mapping[str, str | None], *, actor: str, reason: str = ""
    ) -> Mapping[str, str]:
        """Set *tags*, take off those that are None, and return all that the version has now, by key.

        Raises:
            VersionNotFoundError: If it is not there.
            InvalidTagError: If one cannot be a tag.
        """
        check_tags(tags)
        asked = {"model": model, "key": version.key}
        with self._transaction() as connection:
            found = _find(connection, model, version)
            there = _read_tags(ask(connection, TAGS, **asked))
            writes.write_tags(connection, tags, there, **found, actor=actor, reason=reason, at=writes.tell_time())
            derived.refresh_words(connection, found["after_id"])
            return _read_tags(ask(connection, TAGS, **asked))

    def list_tags(self, model: str, version: Version) -> Mapping[str, str]:
        """Return the tags of a version by key.

        Raises:
            VersionNotFoundError: If it is not there.
        """
        found = _read_tags(self._reader.ask(TAGS, {"model": model, "key": version.key}))
        if not found:
            self._explain_nothing(model, version)
        return found

    def remove(self, model: str, version: Version, *, actor: str, reason: str, seen: int | None = None) -> ModelVersion:
        """Mark a version as removed and as yanked, for ever; its files go after this.

        What is marked so already stays as it is, and so does the history.

        Raises:
            VersionNotFoundError: If it is not there.
            StageConflictError: If a stage points to it, or if there are lines of history behind number *seen*.
        """
        with self._transaction() as connection:
            found = _find(connection, model, version)
            _refuse_later(connection, model, version, seen)
            there = queries.read_version(model, ask(connection, queries.VERSION, model=model, key=version.key)[0])
            if there.removed:
                return there
            stages = connection.execute(STAGES, {"version_id": found["after_id"]}).scalars().all()
            if stages:
                msg = (
                    f"{model} {version} was not removed: stage {', '.join(map(repr, stages))} points to it; "
                    "promote another version there first"
                )
                raise StageConflictError(msg)
            writes.mark_removed(connection, found["after_id"], reason=reason)
            append_line(connection, **found, kind="removed", actor=actor, reason=reason, at=writes.tell_time())
            rows = ask(connection, queries.VERSION, model=model, key=version.key)
        return queries.read_version(model, rows[0])

    def read_policy(self) -> str:
        """Return what was configured last, or nothing."""
        rows = self._reader.ask(POLICY, {})
        return str(rows[0][0]) if rows else ""

    def write_policy(self, content: str, *, expected: str | None = None, actor: str, reason: str = "") -> None:
        """Keep *content* as the policy; with *expected*, only if that is what is kept now.

        Raises:
            PolicyConflictError: If it is not.
            InvalidMetadataError: If *content* is too large, or cannot be kept as text.
        """
        check_text(content, "the policy")
        with self._transaction() as connection:
            now = connection.execute(POLICY).scalar() or ""
            if expected is not None and now != expected:
                msg = "the policy was changed by somebody else meanwhile, and stays so; read it again, then change that"
                raise PolicyConflictError(msg)
            append_line(
                connection,
                model_id=None,
                kind="configured",
                after_id=None,
                actor=actor,
                reason=reason,
                at=writes.tell_time(),
                details=content,
            )

    def _explain_nothing(self, model: str, version: Version) -> tuple[()]:
        if not self._reader.ask(queries.IDS, {"model": model, "key": version.key}):
            _refuse_missing(model, version)
        return ()


def _find(connection: Connection, model: str, version: Version) -> dict[str, Any]:
    rows = ask(connection, queries.IDS, model=model, key=version.key)
    if not rows:
        _refuse_missing(model, version)
    return {"model_id": rows[0][0], "after_id": rows[0][1]}


def _refuse_later(connection: Connection, model: str, version: Version, seen: int | None) -> None:
    last = connection.execute(LAST).first()
    if seen is not None and last is not None and last[0] != seen:
        msg = f"{model} {version} was not removed: something was changed since that was decided; decide again"
        raise StageConflictError(msg)


def _refuse_missing(model: str, version: Version) -> NoReturn:
    msg = f"there is no version {version} of a model {model!r}"
    raise VersionNotFoundError(msg)


def _name_kinds(kinds: Sequence[str]) -> dict[str, str]:
    """Return *kinds* as the values of as many parameters as the statement has."""
    filled = [*dict.fromkeys(kinds), *[""] * MOST_KINDS][:MOST_KINDS]
    return {f"kind{number}": one for number, one in enumerate(filled)}


def _read_tags(rows: Sequence[Sequence[Any]]) -> dict[str, str]:
    return {str(key): str(value) for key, value in rows}
