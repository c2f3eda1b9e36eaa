"""The registry: publish versions of models, find them again, and say which one is in production."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlc_hooks import open_door
from mlc_registry import events, misses, names
from mlc_registry.actors import name_actor
from mlc_registry.addresses import hide_secrets
from mlc_registry.archive import Archive
from mlc_registry.artifacts import Artifacts, Transfer
from mlc_registry.audit import Audit
from mlc_registry.catalogs import open_store
from mlc_registry.errors import CorruptArtifactError, StageNotFoundError, StoreError, YankedVersionWarning
from mlc_registry.metadata import normalise_metadata
from mlc_registry.outbox import Outbox
from mlc_registry.publishing import check_repeat, link_latest, publish
from mlc_registry.records import Draft, Resolved
from mlc_registry.references import Reference, read_reference
from mlc_registry.sources import read_source
from mlc_registry.stages import refuse_yanked, replay
from mlc_registry.versions import Version

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from mlc_registry.protocols import Store
    from mlc_registry.records import Change, File, Model, ModelVersion, Stage

__all__ = ["ModelRegistry"]


class ModelRegistry:
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
        self._store: Store = open_store(root, create=create)
        self._root = hide_secrets(str(root))
        if artifacts is None:
            if self._store.home is None:
                self._store.close()
                msg = f"{self._root} is no place for files; say where they go, with artifacts=DIRECTORY (--artifacts)"
                raise StoreError(msg)
            artifacts = self._store.home / "artifacts"
        self._artifacts = Artifacts(Path(artifacts).absolute())

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
        with self._artifacts.stage(source, transfer) as staged:
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
            published, is_new = publish(self._store, self._artifacts, staged, draft)
        if is_new:
            link_latest(self._store, self._artifacts, name)
            events.model_registered(published, self._path(published))
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

    # ------------------------------------------------------------------ finding

    def resolve(self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False) -> Resolved:
        """Return the version that *reference* means now, with its digest and its place.

        Args:
            name: The model.
            reference: An exact version (`1.2.3`), a range by npm's grammar (`^1.2`, `~1.2.3`, `1.x`, `>=1 <2 || 3.x`),
                `latest` (the highest release), `newest` (what was published last) or a stage (`@production`, or
                `production`, since no stage can be named as a range is).
            include_prereleases: Let ranges and `latest` find pre-releases too.

        Raises:
            InvalidReferenceError: If *reference* is none of these.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If it leads nowhere; says what there is.

        Warns:
            YankedVersionWarning: If the version was asked for exactly or by stage, and has been yanked.
        """
        return self._resolve(name, reference, include_prereleases=include_prereleases)

    def get_model_path(
        self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False, verify: bool = False
    ) -> Path:
        """Return the published file or directory that *reference* means; read it, never write to it.

        Args:
            name: The model.
            reference: As for `resolve`.
            include_prereleases: As for `resolve`.
            verify: Hash the files first.

        Raises:
            CorruptArtifactError: If it is missing, or, with *verify*, not what was published; and as `resolve`.
        """
        found = self._resolve(name, reference, include_prereleases=include_prereleases)
        if verify:
            self._verify(found)
        elif not found.path.exists():
            msg = f"{found.path}, which is {name} {found.version}, is missing; restore it from a copy of the registry"
            raise CorruptArtifactError(msg)
        return found.path

    def verify(self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False) -> Resolved:
        """Hash all files of a version, and return what was checked.

        Raises:
            CorruptArtifactError: If a file is missing, changed or was never published; names each.
        """
        found = self._resolve(name, reference, include_prereleases=include_prereleases)
        self._verify(found)
        return found

    def get(self, name: str, version: str | Version) -> ModelVersion:
        """Return everything that is known about one version, yanked or not.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._find(name, read_reference(str(Version.read(version))))

    def list_models(self) -> Sequence[Model]:
        """Return all models by name."""
        return self._store.list_models()

    def list_versions(self, name: str, *, limit: int | None = None) -> Sequence[ModelVersion]:
        """Return the versions of a model, yanked ones too, the highest first and at most *limit*.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._store.list_versions(name, limit=limit) or self._explain_nothing(name)

    def list_files(self, name: str, version: str | Version) -> Sequence[File]:
        """Return the files of a version by path, with their digests.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._store.list_files(name, self.get(name, version).version)

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
        target = self._find(name, read_reference(str(reference)))
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
        steps = replay(self._store.list_changes(name, stage=stage))
        if not steps:
            raise misses.explain_miss(self._store, name, Reference(stage, "stage", stage=stage))
        if len(steps) == 1:
            msg = f"stage {stage!r} of {name!r} has been at {steps[0]} from the start; there is nothing to go back to"
            raise StageNotFoundError(msg)
        target = self._find(name, read_reference(str(steps[-2])))
        return self._move(target, stage, kind="rolled back", actor=actor, reason=reason, expected=steps[-1])

    def stages(self, name: str) -> Sequence[Stage]:
        """Return the stages of a model by name.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._store.list_stages(name) or self._explain_nothing(name)

    def history(self, name: str, *, stage: str | None = None) -> Sequence[Change]:
        """Return what happened to a model, or to one of its stages, in that order.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._store.list_changes(name, stage=stage) or self._explain_nothing(name)

    # ------------------------------------------------------------------ the rest

    @property
    def audit(self) -> Audit:
        """The history of all models, which can be proved."""
        return Audit(self._store)

    @property
    def outbox(self) -> Outbox:
        """Who hears of it."""
        return Outbox(self._store)

    @property
    def archive(self) -> Archive:
        """All of it, to be saved in one file, or restored from one."""
        return Archive(self._store, self._artifacts)

    def close(self) -> None:
        """Let go of the database; the next question opens it again."""
        self._store.close()

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

    def _find(self, name: str, wanted: Reference) -> ModelVersion:
        if wanted.exact is not None:
            found = self._store.find(name, wanted.exact)
        elif wanted.range is not None:
            found = self._store.highest(name, wanted.range.intervals)
        elif wanted.kind == "stage":
            found = self._store.find_staged(name, wanted.stage)
        else:
            found = self._store.newest(name)
        if found is None:
            raise misses.explain_miss(self._store, name, wanted)
        return found

    def _resolve(self, name: str, reference: str | Version, *, include_prereleases: bool) -> Resolved:
        wanted = read_reference(str(reference), include_prereleases=include_prereleases)
        found = self._find(name, wanted)
        if found.yanked:
            msg = f"{name} {found.version} was yanked: {found.yank_reason or 'no reason was given'}"
            warnings.warn(msg, YankedVersionWarning, stacklevel=3)  # the caller of the method that called this
        return Resolved(
            model=name,
            version=found.version,
            digest=found.digest,
            path=self._path(found),
            reference=wanted.text,
            yanked=found.yanked,
        )

    def _explain_nothing(self, name: str) -> tuple[()]:
        if not self._store.list_versions(name, limit=1):
            raise misses.missing_model(self._store, name)
        return ()

    def _path(self, published: ModelVersion) -> Path:
        return self._artifacts.path(published.directory, published.entry)

    def _verify(self, resolved: Resolved) -> None:
        published = self.get(resolved.model, resolved.version)
        files = self._store.list_files(published.model, published.version)
        self._artifacts.check(f"{published.model} {published.version}", published.directory, files)

    def _set_yanked(self, name: str, number: Version, *, yanked: bool, actor: str | None, reason: str) -> ModelVersion:
        changed = self._store.set_yanked(name, number, yanked=yanked, actor=name_actor(actor), reason=reason)
        if changed is None:
            raise misses.explain_miss(self._store, name, read_reference(str(number)))
        link_latest(self._store, self._artifacts, name)
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
        before, after = self._store.move_stage(
            target.model, stage, target.version, kind=kind, actor=name_actor(actor), reason=reason, expected=expected
        )
        events.model_promoted(target, before, after)
        return after
