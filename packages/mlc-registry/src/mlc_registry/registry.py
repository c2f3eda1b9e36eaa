"""The registry: publish versions of models, find them again, and say which one is in production."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlc_hooks import open_door
from mlc_registry import events, misses, names
from mlc_registry.actors import name_actor
from mlc_registry.addresses import hide_secrets
from mlc_registry.archive import Archive
from mlc_registry.artifacts import Artifacts, Transfer
from mlc_registry.audit import Audit
from mlc_registry.backend import Backend
from mlc_registry.catalogs import open_store
from mlc_registry.errors import StageNotFoundError, StoreError
from mlc_registry.metadata import normalise_metadata
from mlc_registry.outbox import Outbox
from mlc_registry.publishing import check_repeat, link_latest, publish
from mlc_registry.reading import RegistryReader
from mlc_registry.records import Draft
from mlc_registry.references import Reference, read_reference
from mlc_registry.sources import read_source
from mlc_registry.stages import refuse_yanked, replay
from mlc_registry.versions import Version

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from mlc_registry.records import ModelVersion, Stage

__all__ = ["ModelRegistry"]


class ModelRegistry(RegistryReader):
    """Published versions of models, their files, and the stages that point to them.

    Every method asks the database, so what another process published a moment ago is found.

    Args:
        root: A directory, which will hold `registry.db` and `artifacts/`, or the URL of a database, as in
            `sqlite:///registry.db` or `postgresql://user@host/database`.
        artifacts: The directory for published files; `artifacts` beside the database unless said otherwise.
        create: Whether to make the registry if it is not there.

    Raises:
        RegistryNotFoundError: If there is no registry and *create* is false.
        UnknownNameError: If no plugin offers a store for the URL's scheme.
        StoreError: If the database cannot be opened, or was written by a newer version.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "registry",
        *,
        artifacts: str | os.PathLike[str] | None = None,
        create: bool = True,
    ) -> None:
        store = open_store(root, create=create)
        self._root = hide_secrets(str(root))
        if artifacts is None:
            if store.home is None:
                store.close()
                msg = f"{self._root} is no place for files; say where they go, with artifacts=DIRECTORY (--artifacts)"
                raise StoreError(msg)
            artifacts = store.home / "artifacts"
        self._backend = Backend(store, Artifacts(Path(artifacts).absolute()))

    # ------------------------------------------------------------------ publishing

    def register_model(
        self,
        name: str,
        version: str | Version,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        *,
        description: str = "",
        actor: str | None = None,
        transfer: Transfer = "auto",
    ) -> ModelVersion:
        """Publish the file or directory *path* as a version of the model *name*, for ever.

        A version is there whole or not at all, whenever the power fails. Publishing the same files again changes
        nothing and succeeds, so that a job may be repeated.

        Args:
            name: Letters, digits and `._-`.
            version: A semantic version; `v1.0` is read as 1.0.0, and a `LooseVersionWarning` says so.
            path: What to publish. A link as *path* itself is followed.
            metadata: Anything that JSON can hold: metrics, data sets, the run.
            description: What people should know about this version.
            actor: Who publishes; the user of this process unless said otherwise.
            transfer: "copy" makes read-only copies; "link" lets the registry share the files on one file system, which
                costs no space, and is safe only if nobody writes to them again; "auto" links committed checkpoints,
                which nobody does, and copies everything else.

        Raises:
            InvalidNameError, InvalidVersionError, InvalidMetadataError: Before anything is touched.
            SourceError: If the files cannot be published, as when a link leads out of the directory.
            VersionExistsError: If that version, or one of equal precedence, was published with other files.
            StoreError: If the disk or the database fails; nothing is published then.
        """
        open_door("mlc_registry")
        names.check_model(name)
        number = Version.read(version)
        kept = normalise_metadata(metadata)
        source = read_source(path)
        with self._backend.artifacts.stage(source, transfer) as staged:
            draft = Draft(
                model=name,
                version=number,
                digest=staged.digest,
                files=staged.files,
                entry=source.entry,
                metadata=kept,
                description=description,
                created_by=name_actor(actor),
            )
            published, is_new = publish(self._backend.store, self._backend.artifacts, staged, draft)
        if is_new:
            link_latest(self._backend.store, self._backend.artifacts, name)
            events.model_registered(published, self._backend.place(published))
        else:
            check_repeat(published, draft, metadata_given=metadata is not None)
        return published

    def yank(self, name: str, version: str | Version, reason: str, *, actor: str | None = None) -> ModelVersion:
        """Let ranges, `latest` and `newest` pass a version over; who asks for it exactly, or by stage, still gets it.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._set_yanked(name, Version.read(version), yanked=True, actor=actor, reason=reason)

    def unyank(self, name: str, version: str | Version, reason: str = "", *, actor: str | None = None) -> ModelVersion:
        """Undo `yank`.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._set_yanked(name, Version.read(version), yanked=False, actor=actor, reason=reason)

    # ------------------------------------------------------------------ stages

    def promote(
        self,
        name: str,
        reference: str | Version,
        stage: str,
        *,
        reason: str = "",
        actor: str | None = None,
        expected: str | Version | None = None,
    ) -> Stage:
        """Point *stage* to the version that *reference* means now, and keep who did it and why.

        Args:
            name: The model.
            reference: As for `resolve`; another stage, as in `@staging`, moves its version on.
            stage: Any name of small letters, digits and `_-` that is neither a range nor a keyword.
            reason: Why.
            actor: Who; the user of this process unless said otherwise.
            expected: Move only if *stage* points to this version, or, if it is "unset", to none yet.

        Raises:
            InvalidNameError: If *stage* cannot name a stage.
            YankedVersionError: If the version has been yanked.
            StageConflictError: If the stage does not point to what was *expected*; and as `resolve`.
        """
        open_door("mlc_registry")
        names.check_stage(stage)
        target = self._backend.find(name, read_reference(str(reference)))
        was: Version | Literal["unset"] | None = None
        if expected is not None:
            was = "unset" if expected == "unset" else Version.read(expected)
        return self._move(target, stage, kind="promoted", actor=actor, reason=reason, expected=was)

    def rollback(self, name: str, stage: str, *, reason: str = "", actor: str | None = None) -> Stage:
        """Point *stage* back to the version before; once more goes back one more.

        Raises:
            StageNotFoundError: If there is no such stage, or no version before.
            YankedVersionError: If that version has been yanked.
            StageConflictError: If somebody else moved the stage meanwhile.
        """
        open_door("mlc_registry")
        steps = replay(self._backend.store.list_changes(name, stage=stage))
        if not steps:
            raise misses.explain_miss(self._backend.store, name, Reference(stage, "stage", stage=stage))
        if len(steps) == 1:
            msg = f"stage {stage!r} of {name!r} has been at {steps[0]} from the start; there is nothing to go back to"
            raise StageNotFoundError(msg)
        target = self._backend.find(name, read_reference(str(steps[-2])))
        return self._move(target, stage, kind="rolled back", actor=actor, reason=reason, expected=steps[-1])

    # ------------------------------------------------------------------ the rest

    @property
    def audit(self) -> Audit:
        """The history of all models, which can be proved."""
        return Audit(self._backend.store)

    @property
    def outbox(self) -> Outbox:
        """Who hears of it."""
        return Outbox(self._backend.store)

    @property
    def archive(self) -> Archive:
        """All of it, to be saved in one file, or restored from one."""
        return Archive(self._backend.store, self._backend.artifacts)

    def close(self) -> None:
        """Let go of the database; the next question opens it again."""
        self._backend.store.close()

    def __enter__(self) -> Self:
        """Return the registry, to be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return how it was opened."""
        return f"ModelRegistry({self._root!r})"

    def _set_yanked(self, name: str, number: Version, *, yanked: bool, actor: str | None, reason: str) -> ModelVersion:
        changed = self._backend.store.set_yanked(name, number, yanked=yanked, actor=name_actor(actor), reason=reason)
        if changed is None:
            raise misses.explain_miss(self._backend.store, name, read_reference(str(number)))
        link_latest(self._backend.store, self._backend.artifacts, name)
        return changed

    def _move(
        self,
        target: ModelVersion,
        stage: str,
        *,
        kind: Literal["promoted", "rolled back"],
        actor: str | None,
        reason: str,
        expected: Version | Literal["unset"] | None,
    ) -> Stage:
        refuse_yanked(target, stage)
        before, after = self._backend.store.move_stage(
            target.model, stage, target.version, kind=kind, actor=name_actor(actor), reason=reason, expected=expected
        )
        events.model_promoted(target, before, after)
        return after
