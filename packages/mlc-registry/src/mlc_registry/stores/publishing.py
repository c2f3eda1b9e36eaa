"""What publishing writes: all of it made ready before the transaction, for which others wait, and in few statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, select

from mlc_registry.errors import InvalidNameError
from mlc_registry.facts import digest_facts, encode_facts
from mlc_registry.history.chain import START
from mlc_registry.metadata import encode_metadata
from mlc_registry.stores import derived, queries, tables
from mlc_registry.stores.ledger import INSERT, LAST, seal_line
from mlc_registry.stores.prepared import ask, tell
from mlc_registry.stores.writes import tell_time
from mlc_registry.tags import check_line
from mlc_registry.words import split_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from mlc_registry.records import Draft, ModelVersion

__all__ = ["Publication"]

INSERTS = {table: insert(table) for table in (tables.model, tables.version, tables.file, tables.tag, tables.word)}
THERE = (
    select(tables.model.c.id, tables.model.c.name, *queries.OF_VERSION)
    .outerjoin_from(tables.model, tables.version, (tables.version.c.model_id == tables.model.c.id) & queries.KEY)
    .where(func.lower(tables.model.c.name) == bindparam("folded"))
)
# The next number, not one of a sequence: writers take turns, and a number that is left out would be a riddle.
NUMBERS = select(
    select(func.max(tables.model.c.id)).scalar_subquery(),
    select(func.max(tables.version.c.id)).scalar_subquery(),
    LAST.with_only_columns(tables.change.c.id).scalar_subquery(),
    LAST.with_only_columns(tables.change.c.digest).scalar_subquery(),
)
NAMES = [one.name for one in queries.OF_VERSION]


class Publication:
    """A draft that is about to be written.

    Raises:
        InvalidMetadataError: If there is something in it that no database can keep.
    """

    def __init__(self, draft: Draft) -> None:
        check_line(actor=draft.created_by)
        self._draft = draft
        self._asked = {"folded": draft.model.lower(), "key": draft.version.key}
        self._said = {
            "metadata": encode_metadata(draft.metadata),
            "description": draft.description,
            "entry": draft.entry,
            "facts": encode_facts(draft),
        }
        self._row: dict[str, Any] = {
            "version": str(draft.version),
            "sort_key": draft.version.key,
            "prerelease": draft.version.is_prerelease,
            "digest": draft.digest,
            "size": sum(one.size for one in draft.files),
            "directory": draft.directory,
            **self._said,
            "created_by": draft.created_by,
            "yanked": False,
            "yank_reason": "",
            "removed": False,
        }
        texts = [draft.model, draft.description, draft.tracking.dataset, draft.notes]
        self._words = sorted(split_words(*texts, *draft.tags, *draft.tags.values()))

    def write(self, connection: Connection) -> tuple[ModelVersion, bool]:
        """Write it, unless a version of equal precedence is there; return the one that is, and whether it is new.

        Raises:
            InvalidNameError: If the model is new and its name differs from another's in case only.
        """
        there = ask(connection, THERE, **self._asked)
        model_id, *found = self._read(there)
        if found and found[0] is not None:
            return queries.read_version(self._draft.model, found), False
        last_model, last_version, number, digest = ask(connection, NUMBERS)[0]
        if model_id is None:
            model_id = (last_model or 0) + 1
            tell(connection, INSERTS[tables.model], [{"id": model_id, "name": self._draft.model}])
        row = {**self._row, "id": (last_version or 0) + 1, "model_id": model_id, "created_at": tell_time()}
        self._insert(connection, row)
        tell(connection, INSERT, self._list_lines(row, (number or 0, digest or START)))
        return queries.read_version(self._draft.model, [row[name] for name in NAMES]), True

    def _read(self, there: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """Return the id of the model and its version's row: nothing where there is none."""
        if not there:
            return (None,)
        model_id, name, *found = there[0]
        if name != self._draft.model:
            msg = f"there is a model {name!r} already, and {self._draft.model!r} differs from it in case only"
            raise InvalidNameError(msg)
        return (model_id, *found)

    def _insert(self, connection: Connection, row: dict[str, Any]) -> None:
        of_version = {"version_id": row["id"]}
        draft = self._draft
        tell(connection, INSERTS[tables.version], [row])
        files = [{**of_version, "path": one.path, "size": one.size, "digest": one.digest} for one in draft.files]
        tell(connection, INSERTS[tables.file], files)
        tags = [{**of_version, "key": key, "value": value} for key, value in draft.tags.items()]
        tell(connection, INSERTS[tables.tag], tags)
        derived.insert_facts(
            connection,
            row["id"],
            metadata=draft.metadata,
            tracking=draft.tracking,
            dependencies=draft.dependencies,
        )
        tell(connection, INSERTS[tables.word], [{**of_version, "word": one} for one in self._words])

    def _list_lines(self, row: dict[str, Any], head: tuple[int, str]) -> list[dict[str, Any]]:
        """Return the lines of history behind *head*."""
        draft = self._draft
        told = [("registered", draft.description, digest_facts(**self._said))]
        if draft.tags:
            told.append(("tagged", "", encode_metadata(draft.tags)))
        if draft.notes:
            told.append(("noted", "", draft.notes))
        lines: list[dict[str, Any]] = []
        for kind, reason, details in told:
            line = seal_line(
                head,
                model=draft.model,
                model_id=row["model_id"],
                after=row["version"],
                after_id=row["id"],
                content=row["digest"],
                kind=kind,
                actor=draft.created_by,
                reason=reason,
                at=row["created_at"],
                details=details,
            )
            lines.append(line)
            head = line["id"], line["digest"]
        return lines
