"""What a place for the facts of a registry has to do, and a place for its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path

    from mlc_registry.artifacts.local import Staged, Transfer
    from mlc_registry.artifacts.sources import Source
    from mlc_registry.records import (
        Audited,
        Change,
        Content,
        Draft,
        File,
        Leftover,
        Line,
        Listener,
        Model,
        ModelVersion,
        Page,
        Promotion,
        Query,
        Row,
        Stage,
    )
    from mlc_registry.semver import ranges
    from mlc_registry.semver.versions import Version

__all__ = ["ArtifactStore", "Ledger", "Listeners", "PromotionCheck", "Rows", "Searches", "Statements", "Store"]


class ArtifactStore(Protocol):
    """Keeps the files of published versions, those of each in a directory of its own that is never written to again.

    A directory is a text that the store gives and the database keeps. Whatever the database says about a place outside
    of the store raises `CorruptArtifactError`; what goes wrong with the store itself raises `StoreError`.
    """

    @property
    def url(self) -> str:
        """Where it is, for people."""
        ...

    def stage(self, source: Source, transfer: Transfer) -> AbstractContextManager[Staged]:
        """Bring the files of *source*, hashed and durable, and keep sweepers away from them until the context ends.

        Raises:
            SourceError: If a file cannot be read, or changes while it is.
        """
        ...

    def install(self, staged: Staged, model: str, version: Version) -> str:
        """Put *staged* in place, durably, and return its directory. It counts for nothing until a row names it.

        Whatever is at that place stays, and the new directory gets another name.
        """
        ...

    def room(self) -> AbstractContextManager[Path]:
        """Make an empty local directory, for folders to be installed, until the context ends."""
        ...

    def install_folder(self, folder: Path, model: str, version: Version) -> str:
        """Put a *folder* in a `room` in place as `install` does; it is gone from there afterwards."""
        ...

    def discard(self, directory: str) -> str:
        """Remove a directory that no row names, or no longer, and return nothing; or why it is still there."""
        ...

    def place(self, published: ModelVersion) -> Path:
        """Return where the file or directory of *published* is on this machine, or will be once it was fetched."""
        ...

    def fetch(self, published: ModelVersion, list_files: Callable[[], Sequence[File]], *, verify: bool) -> Path:
        """Return the file or directory of *published* on this machine, brought there if need be.

        What is brought is always hashed; what is there already only if *verify*.

        Raises:
            CorruptArtifactError: If it is missing, or known not to be what was published.
        """
        ...

    def read(self, directory: str, file: File) -> AbstractContextManager[Content]:
        """Open one published file.

        Raises:
            OSError: If it cannot be read.
        """
        ...

    def find_damage(self, directory: str, files: Sequence[File]) -> Sequence[str]:
        """Hash what the store holds and return what is not as published, in words: nothing when all is well."""
        ...

    def repair(self, staged: Staged, published: ModelVersion) -> Sequence[str]:
        """Put those of the *staged* files that are not as *published* in their place; return what was not, in words."""
        ...

    def claim(self, owner: str) -> None:
        """Note that the registry whose history begins with the digest *owner* keeps files here. Never raises."""
        ...

    def owners(self) -> frozenset[str]:
        """Return who has claimed it."""
        ...

    def sweep(
        self, published: Callable[[str], Iterable[str]], *, older_than: timedelta, dry_run: bool
    ) -> tuple[Leftover, ...]:
        """Find what killed publishers left, and remove it unless *dry_run*; nothing of a publisher at work.

        *published* returns the directories of a model that rows name and whose files are to stay; it is asked when
        everything that is not of a publisher at work has its row or never will.
        """
        ...


class Store(Protocol):
    """Keeps the facts of a registry; the files lie elsewhere.

    Every method is one transaction: another process sees all of it or nothing, at once. A store decides nothing but
    what only it can: which of two that come at once was first. A model that is not there has no versions, no stages and
    no history. What goes wrong with the database itself raises `StoreError`. A store that can be told from every other,
    from its own copies too, has a text that does so as its property `identity`.
    """

    @property
    def home(self) -> Path | None:
        """The directory beside which artifacts lie unless said otherwise; None where that cannot be told."""
        ...

    def publish(self, draft: Draft) -> tuple[ModelVersion, bool]:
        """Keep *draft* unless a version of equal precedence is there; return the one that is, and whether it is new.

        Raises:
            InvalidNameError: If the model is new and its name differs from another's in case only.
        """
        ...

    def find(self, model: str, version: Version) -> ModelVersion | None:
        """Return the version of equal precedence, yanked or not."""
        ...

    def highest(self, model: str, intervals: Sequence[ranges.Interval], *, yanked: bool = False) -> ModelVersion | None:
        """Return the highest version in any of *intervals* that is not yanked, or, if *yanked*, that is."""
        ...

    def newest(self, model: str) -> ModelVersion | None:
        """Return the version that was published last and is not yanked."""
        ...

    def find_staged(self, model: str, stage: str) -> ModelVersion | None:
        """Return the version that *stage* points to, yanked or not."""
        ...

    def list_models(self, *, limit: int | None = None, after: str = "") -> Sequence[Model]:
        """Return the models by name, in the order of its characters: at most *limit*, those behind the name *after*."""
        ...

    def find_digest(self, model: str, digest: str) -> ModelVersion | None:
        """Return the highest version of *model* with this digest, a yanked or removed one only if need be."""
        ...

    def list_versions(
        self, model: str, *, limit: int | None = None, below: Version | None = None
    ) -> Sequence[ModelVersion]:
        """Return the versions of *model*, yanked ones too, the highest first: at most *limit*, lower than *below*."""
        ...

    def list_files(self, model: str, version: Version) -> Sequence[File]:
        """Return the files of a version by path."""
        ...

    def list_stages(self, model: str) -> Sequence[Stage]:
        """Return the stages of *model* by name."""
        ...

    def list_changes(
        self, model: str, *, stage: str | None = None, limit: int | None = None, after: int = 0
    ) -> Sequence[Change]:
        """Return the history of *model*, or of a stage of it, in its order: at most *limit*, behind line *after*."""
        ...

    def set_yanked(self, model: str, version: Version, *, yanked: bool, actor: str, reason: str) -> ModelVersion | None:
        """Mark a version as yanked, or no longer; return it as it is now, or None if it is not there.

        What is marked so already, for that reason, stays as it is, and so does the history.

        Raises:
            RemovedVersionError: If it is not to be yanked any more, and was removed.
        """
        ...

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
        """Point *stage* to *version*, which exists; return the stage before and after.

        With None for *version*, which *kind* "demoted" goes with, it points to nothing afterwards; it must have pointed
        to something. With *expected*, only if the stage points to that version, or if it is "unset", to none yet. With
        *seen*, only if no line of the ledger behind that number takes back what the caller went by: none that a version
        of *model* was rolled back, demoted, yanked, removed or lost an approval, and none that the registry was
        configured.
        *details* are kept with the line of history.

        Raises:
            StageConflictError: If it is not so; says what the stage points to, or what happened.
        """
        ...

    def close(self) -> None:
        """Let go of the database; a second call does nothing."""
        ...


class Statements(Protocol):
    """What is said about versions after they were published: each statement is a line of history, and none is lost.

    A store that keeps them has them as its property `statements`. Each method raises `VersionNotFoundError` if the
    version is not there.
    """

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
        """Keep one statement, and return it as it was kept."""
        ...

    def list_all(
        self, model: str, version: Version, *, kinds: Sequence[str], stage: str | None = None
    ) -> Sequence[Change]:
        """Return what was stated about a version, in that order."""
        ...

    def set_tags(
        self, model: str, version: Version, tags: Mapping[str, str | None], *, actor: str, reason: str = ""
    ) -> Mapping[str, str]:
        """Set *tags*, take off those that are None, and return all that the version has now, by key."""
        ...

    def list_tags(self, model: str, version: Version) -> Mapping[str, str]:
        """Return the tags of a version by key."""
        ...

    def remove(self, model: str, version: Version, *, actor: str, reason: str, seen: int | None = None) -> ModelVersion:
        """Mark a version as removed and as yanked, for ever; its files go after this.

        With *seen*, only if that is the number of the last line of history: anything behind it may need the version.

        Raises:
            StageConflictError: If a stage points to it, or if there are lines behind the one that was *seen*.
        """
        ...

    def read_policy(self) -> str:
        """Return what was configured last, or nothing."""
        ...

    def write_policy(self, content: str, *, expected: str | None = None, actor: str, reason: str = "") -> None:
        """Keep *content* as the policy; with *expected*, only if that is what is kept now.

        Raises:
            PolicyConflictError: If it is not.
        """
        ...


class Searches(Protocol):
    """Questions across models. A store that answers them has them as its property `searches`."""

    def search(self, query: Query, *, after: str | None = None, limit: int = 50) -> Page:
        """Return at most *limit* versions that *query* describes, those behind the page whose `next` is *after*.

        Raises:
            InvalidQueryError: If *after* is no such token.
        """
        ...

    def list_dependents(self, model: str) -> Sequence[ModelVersion]:
        """Return the versions that depend on *model* and are not removed, by model, the highest first."""
        ...


class Ledger(Protocol):
    """The history of a whole registry, each line sealed with the one before it.

    A store that keeps one has it as its property `ledger`.
    """

    def read_lines(self, *, after: int = 0, limit: int | None = None) -> Sequence[Line]:
        """Return the lines behind number *after* in order, at most *limit*."""
        ...

    def read_head(self) -> tuple[int, str]:
        """Return the number and the digest of the last line; 0 and `chain.START` if there is none."""
        ...

    def verify(self, *, expected_head: str | None = None) -> Audited:
        """Compute everything anew, as of one moment, and compare.

        Raises:
            AuditError: If anything is not as the history says, or no line has the digest *expected_head*.
        """
        ...


class Listeners(Protocol):
    """Who is to hear of the history, and up to which line each has.

    A store that keeps them has them as its property `listeners`, beside its `ledger`.
    """

    def add(self, name: str, url: str, *, position: int) -> None:
        """Keep a listener that has heard everything up to the line *position*.

        Raises:
            ListenerExistsError: If there is one of that name.
        """
        ...

    def remove(self, name: str) -> bool:
        """Forget a listener; return whether it was there."""
        ...

    def list_all(self) -> Sequence[Listener]:
        """Return all listeners by name."""
        ...

    def move(self, name: str, *, before: int, after: int) -> bool:
        """Move a listener's position from *before* to *after*; return False if it was not there."""
        ...

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Keep everybody else from delivering to a listener; whoever dies lets go.

        Raises:
            ListenerBusyError: If somebody else does.
        """
        ...


class Rows(Protocol):
    """Everything that a store keeps, as plain rows, to be moved to another.

    A store whose content can be moved has it as its property `rows`.
    """

    def read(self) -> AbstractContextManager[Mapping[str, Iterator[Row]]]:
        """Return the rows of every table, as of one moment, in the order in which they can be written."""
        ...

    def write(self, rows: Mapping[str, Sequence[Row]], *, head: str) -> Audited:
        """Write *rows* into a store that holds none, unless they do not fit together up to the line with digest *head*.

        Raises:
            ArchiveError: If there is something in it, or a row does not fit its table.
            AuditError: If the rows do not fit each other.
        """
        ...


class PromotionCheck(Protocol):
    """Says whether a version may be promoted to a stage. Looks, and changes nothing."""

    def object_to(self, promotion: Promotion) -> str:
        """Return why *promotion* should not be, and what would help; nothing if it may.

        Whatever is raised keeps the version out, too.
        """
        ...
