"""The store on a database that SQLAlchemy speaks to; what differs between databases is in the engine it is given."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from mlc_registry.errors import StageConflictError
from mlc_registry.promotion.stages import refuse_unexpected
from mlc_registry.stores import queries, writes
from mlc_registry.stores.failures import failures
from mlc_registry.stores.held import Writer
from mlc_registry.stores.ledger import SqlLedger
from mlc_registry.stores.listeners import SqlListeners
from mlc_registry.stores.prepared import ask
from mlc_registry.stores.publishing import Publication
from mlc_registry.stores.reader import Reader
from mlc_registry.stores.rows import SqlRows
from mlc_registry.stores.searches import SqlSearches
from mlc_registry.stores.staleness import refuse_stale
from mlc_registry.stores.statements import SqlStatements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Select

    from mlc_registry.records import Change, Draft, File, Model, ModelVersion, Stage
    from mlc_registry.semver.ranges import Interval
    from mlc_registry.semver.versions import Version

__all__ = ["SqlStore"]

ALL = 2**63 - 1
END = b"\xff"
"""Above the key of any version."""


class SqlStore:
    """A `Store` in tables. *engine* must run transactions one after the other, as SQLite does from BEGIN IMMEDIATE.

    *lock* lets one holder at a time go on with a name, and ends with its process; *is_current* is for `Writer`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        home: Path | None,
        lock: Callable[[str], AbstractContextManager[None]],
        is_current: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        self._engine = engine
        self._home = home
        self._identity = ""
        self._reader, self._writer = Reader(engine), Writer(engine, is_current)
        # Functions that do not hold the store: it is to be collected when it is forgotten.
        snapshot, transaction = partial(_snapshot, engine), self._writer.begin
        self._ledger = SqlLedger(self._reader, snapshot)
        self._listeners = SqlListeners(self._reader, transaction, lock)
        self._rows = SqlRows(snapshot, transaction)
        self._statements = SqlStatements(self._reader, transaction)
        self._searches = SqlSearches(self._reader, engine)
        weakref.finalize(self, self._reader.close)
        weakref.finalize(self, self._writer.close)

    @property
    def home(self) -> Path | None:
        """The directory that holds the database, if it is a file."""
        return self._home

    @property
    def identity(self) -> str:
        """What tells this registry from every other."""
        if not self._identity:
            self._identity = str(self._ask(queries.IDENTITY)[0][0])
        return self._identity

    @property
    def ledger(self) -> SqlLedger:
        """The history of all models."""
        return self._ledger

    @property
    def listeners(self) -> SqlListeners:
        """Who is to hear of the history."""
        return self._listeners

    @property
    def rows(self) -> SqlRows:
        """Everything, to be moved."""
        return self._rows

    @property
    def statements(self) -> SqlStatements:
        """What is said about versions after they were published."""
        return self._statements

    @property
    def searches(self) -> SqlSearches:
        """Questions across models."""
        return self._searches

    # ------------------------------------------------------------------ questions

    def find(self, model: str, version: Version) -> ModelVersion | None:
        """Return the version of equal precedence, yanked or not."""
        return self._ask_version(model, queries.VERSION, key=version.key)

    def highest(self, model: str, intervals: Sequence[Interval], *, yanked: bool = False) -> ModelVersion | None:
        """Return the highest version in any of *intervals* that is not yanked, or, if *yanked*, that is."""
        best: ModelVersion | None = None
        for one in intervals:
            found = self._ask_version(model, queries.WITHIN[one.prereleases, yanked], low=one.low, high=one.high)
            if best is None or (found is not None and found.version > best.version):
                best = found
        return best

    def newest(self, model: str) -> ModelVersion | None:
        """Return the version that was published last and is not yanked."""
        return self._ask_version(model, queries.NEWEST)

    def find_staged(self, model: str, stage: str) -> ModelVersion | None:
        """Return the version that *stage* points to, yanked or not."""
        return self._ask_version(model, queries.STAGED, stage=stage)

    def list_models(self, *, limit: int | None = None, after: str = "") -> Sequence[Model]:
        """Return the models by name: at most *limit*, those behind the name *after*."""
        rows = self._ask(queries.MODELS, limit=ALL if limit is None else limit, after=after)
        return tuple(map(queries.read_model, rows))

    def find_digest(self, model: str, digest: str) -> ModelVersion | None:
        """Return the highest version of *model* with this digest, a yanked or removed one only if need be."""
        return self._ask_version(model, queries.DIGEST, digest=digest)

    def list_versions(
        self, model: str, *, limit: int | None = None, below: Version | None = None
    ) -> Sequence[ModelVersion]:
        """Return the versions of *model*, yanked ones too, the highest first: at most *limit*, lower than *below*."""
        key = END if below is None else below.key
        rows = self._ask(queries.VERSIONS, model=model, limit=ALL if limit is None else limit, below=key)
        return tuple(queries.read_version(model, row) for row in rows)

    def list_files(self, model: str, version: Version) -> Sequence[File]:
        """Return the files of a version by path."""
        return tuple(map(queries.read_file, self._ask(queries.FILES, model=model, key=version.key)))

    def list_stages(self, model: str) -> Sequence[Stage]:
        """Return the stages of *model* by name."""
        return tuple(queries.read_stage(model, row) for row in self._ask(queries.STAGES, model=model))

    def list_changes(
        self, model: str, *, stage: str | None = None, limit: int | None = None, after: int = 0
    ) -> Sequence[Change]:
        """Return the history of *model*, or of a stage of it, in its order: at most *limit*, behind line *after*."""
        asked = {"model": model, "limit": ALL if limit is None else limit, "after": after}
        if stage is None:
            rows = self._ask(queries.CHANGES, **asked)
        else:
            rows = self._ask(queries.CHANGES_OF_STAGE, **asked, stage=stage)
        return tuple(queries.read_change(model, row) for row in rows)

    # ------------------------------------------------------------------ changes

    def publish(self, draft: Draft) -> tuple[ModelVersion, bool]:
        """Keep *draft* unless a version of equal precedence is there; return the one that is, and whether it is new.

        Raises:
            InvalidNameError: If the model is new and its name differs from another's in case only.
            StoreError: If the database fails; nothing is kept then.
        """
        publication = Publication(draft)
        with self._transaction() as connection:
            return publication.write(connection)

    def set_yanked(self, model: str, version: Version, *, yanked: bool, actor: str, reason: str) -> ModelVersion | None:
        """Mark a version as yanked, or no longer; return it as it is now, or None if it is not there."""
        with self._transaction() as connection:
            writes.mark_yanked(connection, model, version, yanked=yanked, actor=actor, reason=reason)
            rows = ask(connection, queries.VERSION, model=model, key=version.key)
        return queries.read_version(model, rows[0]) if rows else None

    def move_stage(
        self,
        model: str,
        stage: str,
        version: Version | None,
        *,
        kind: Literal["promoted", "rolled back", "demoted"],
        actor: str,
        reason: str,
        expected: Version | Literal["unset"] | None,
        details: str = "",
        seen: int | None = None,
    ) -> tuple[Stage | None, Stage | None]:
        """Point *stage* to *version*, which exists, or to none; return the stage before and after.

        Raises:
            StageConflictError: If the stage does not point to the *expected* version, or something was taken back since
                the line that was *seen*; says what it points to, or what happened.
        """
        with self._transaction() as connection:
            rows = ask(connection, queries.STAGE, model=model, stage=stage)
            before = queries.read_stage(model, rows[0]) if rows else None
            refuse_unexpected(model, stage, before, expected)
            refuse_stale(connection, model, stage, seen)
            about = before.version if version is None and before is not None else version
            if about is None:
                msg = f"stage {stage!r} of {model!r} points to nothing already; it was not moved"
                raise StageConflictError(msg)
            writes.point_stage(connection, model, stage, about, kind=kind, actor=actor, reason=reason, details=details)
            rows = ask(connection, queries.STAGE, model=model, stage=stage)
        return before, queries.read_stage(model, rows[0]) if rows else None

    def close(self) -> None:
        """Let go of the database; a second call does nothing, and a question opens it again."""
        self._reader.close()
        self._writer.close()

    # ------------------------------------------------------------------ the inside

    def _ask(self, statement: Select[Any], **values: Any) -> Sequence[Sequence[Any]]:
        return self._reader.ask(statement, values)

    def _ask_version(self, name: str, statement: Select[Any], **values: Any) -> ModelVersion | None:
        values["model"] = name
        rows = self._ask(statement, **values)
        return queries.read_version(name, rows[0]) if rows else None

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self._writer.begin()

    def _snapshot(self) -> AbstractContextManager[Connection]:
        return _snapshot(self._engine)


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """Read as of one moment, without being in anybody's way."""
    with (
        failures(engine),
        engine.connect().execution_options(mlc_snapshot=True) as connection,
        connection.begin(),
    ):
        yield connection
