"""The registry: publish versions of models, find them again, and say which one is in production."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_hooks import open_door
from mlc_registry import events, misses, names
from mlc_registry.actors import check_reason, name_actor
from mlc_registry.artifacts.local import ARTIFACTS
from mlc_registry.artifacts.sources import read_source
from mlc_registry.backend import Backend
from mlc_registry.catalogs import open_artifacts, open_store
from mlc_registry.construction.classes import describe_class, recipe
from mlc_registry.describing import describe, list_differences
from mlc_registry.directories.view import View, refuse_overlap
from mlc_registry.errors import EmptyDirectoryWarning, SourceError, StoreError
from mlc_registry.facts import check_tracking
from mlc_registry.history.addresses import hide_secrets
from mlc_registry.promotion import promoting
from mlc_registry.publishing import check_repeat, publish, repair
from mlc_registry.reading import RegistryReader
from mlc_registry.records import Draft
from mlc_registry.releases.provenance import complete_tracking, tracking_of
from mlc_registry.requirements import require_path
from mlc_registry.rooms import RegistryRooms
from mlc_registry.semver.references import read_reference
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from mlc_registry.artifacts.local import Transfer
    from mlc_registry.records import Architecture, ModelVersion, Stage, Tracking

__all__ = ["ModelRegistry"]


class ModelRegistry(RegistryReader, RegistryRooms):
    """Published versions of models, their files, and the stages that point to them.

    Every method asks the database, so what another process published a moment ago is found.

    Args:
        root: A directory, which will hold `registry.db` and `artifacts/`, or the URL of a database, as in
            `sqlite:///registry.db` or `postgresql://user@host/database`.
        artifacts: Where the published files go: a directory, `artifacts` beside the database unless said otherwise, or
            the URL of a storage of `mlc_core`, which `mlc-registry[storages]` brings.
        view: The directory for directories for people, which show every version with what is known about it; `models`
            beside the database unless said otherwise, and none where that cannot be told.
        create: Whether to make the registry if it is not there.

    Raises:
        RegistryNotFoundError: If there is no registry and *create* is false.
        UnknownNameError: If no plugin offers a store or a storage for a URL's scheme.
        StoreError: If the database cannot be opened, or was written by a newer version; or if *view* is no directory
            of its own.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "registry",
        *,
        artifacts: str | os.PathLike[str] | None = None,
        view: str | os.PathLike[str] | None = None,
        create: bool = True,
    ) -> None:
        require_path(root, "the registry", error=StoreError)
        for given, what in ((artifacts, "artifacts"), (view, "view")):
            if given is not None:
                require_path(given, what, error=StoreError)
        store = open_store(root, create=create)
        self._root = hide_secrets(str(root))
        if artifacts is None:
            if store.home is None:
                store.close()
                msg = f"{self._root} is no place for files; say where they go, with artifacts=DIRECTORY (--artifacts)"
                raise StoreError(msg)
            artifacts = store.home / ARTIFACTS
        try:
            files = open_artifacts(artifacts)
            shown = store.home / "models" if view is None and store.home is not None else view
            if shown is not None:
                refuse_overlap(shown, files.url, store.home)
            self._backend = Backend(store, files, None if shown is None else View(Path(shown).absolute(), store, files))
        except BaseException:
            store.close()
            raise

    # ------------------------------------------------------------------ publishing

    def register_model(
        self,
        name: str,
        version: str | Version,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        *,
        description: str = "",
        tracking: Tracking | None = None,
        architecture: Architecture | None = None,
        dependencies: Mapping[str, str] | None = None,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        notes: str = "",
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
            tracking: How it came to be: the run, the data set, the commit, its metrics. Searches find it by them. What
                it does not say is taken from the manifest where a checkpoint is published.
            architecture: The class that the weights belong to, and what it is called with.
            dependencies: Which versions of other models it works with: a range by the name of each.
            parent: What it was made from, as `NAME@REFERENCE`; kept as the exact version that this means now.
            tags: What it is to be found by; they can be changed later.
            notes: Its release notes, as Markdown; they can be written anew later.
            actor: Who publishes; the user of this process unless said otherwise.
            transfer: "copy" makes read-only copies; "link" lets the registry share the files on one file system, which
                costs no space, and is safe only if nobody writes to them again; "auto" links committed checkpoints,
                which nobody does, and copies everything else.

        Raises:
            InvalidNameError, InvalidVersionError, InvalidRangeError, InvalidMetadataError, InvalidTagError: Before
                anything is touched.
            InvalidReferenceError, ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *parent* leads
                nowhere.
            DependencyError: If one of *dependencies* cannot be had now: names each, and what there is.
            SourceError: If the files cannot be published, as when a link leads out of the directory.
            RemovedVersionError: If that version was published before, and removed.
            VersionExistsError: If that version, or one of equal precedence, was published with other files.
            StoreError: If the disk or the database fails; nothing is published then.

        Warns:
            RepairedVersionWarning: If that version is there, its files were not what was published, and these, which
                are the same, have taken their place.
            EmptyDirectoryWarning: If some directories hold no file; they are not published.
            BumpWarning: If it changes more than its number says beside the release before; where warnings are errors,
                nothing is published.
        """
        open_door("mlc_registry")
        names.check_model(name)
        number = Version.read(version)
        require_path(path, "what to publish", error=SourceError)
        said: dict[str, Any] = {
            "metadata": metadata,
            "tracking": complete_tracking(check_tracking(tracking), tracking_of(path)),
            "architecture": architecture,
            "dependencies": dependencies,
            "parent": parent,
        }
        there = self._backend.store.find(name, number)
        if dependencies and there is None:
            said["dependencies"] = self.dependencies.check(name, dependencies)
        about = describe(self._backend, **said, description=description, tags=tags, notes=notes, actor=actor)
        source = read_source(path)
        if source.empty:
            msg = f"directories without files are not published: {', '.join(source.empty)}; a version is its files"
            warnings.warn(msg, EmptyDirectoryWarning, stacklevel=2)
        with self._backend.artifacts.stage(source, transfer) as staged:
            draft = Draft(
                model=name,
                version=number,
                digest=staged.digest,
                files=staged.files,
                entry=source.entry,
                **about,
            )
            if there is None:
                self.releases.check_bump(draft, Path(path))
                published, is_new = publish(self._backend.store, self._backend.artifacts, staged, draft)
            else:
                repair(self._backend.artifacts, staged, there)
                published, is_new = there, False
        if is_new:
            self._backend.refresh()
            events.model_registered(published, self._backend.place(published))
        else:
            given = {**said, "tracking": tracking, "description": description or None}
            check_repeat(published, draft, lambda: list_differences(self._backend, published, draft, given))
        return published

    def register(
        self,
        name: str,
        version: str | Version,
        model_cls: type | str,
        config: Mapping[str, Any] | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        **facts: Any,
    ) -> ModelVersion:
        """Publish a model as its class with its configuration, and its weights if there are some, for `load`.

        Args:
            name: As for `register_model`.
            version: A semantic version.
            model_cls: A class that others can import, or its name, as in `medical.networks:UNet`.
            config: What it is called with, by keyword: JSON. Tuples become lists.
            path: The weights: a safetensors file, a checkpoint, or a directory. Without, only the class with its
                configuration is published, as the file `model.json`.
            **facts: Everything else that `register_model` takes: `metadata`, `description`, `tracking`, and so on.

        Raises:
            ConstructionError: If nobody else could import the class, or it does not take *config*; and as
                `register_model`.
        """
        open_door("mlc_registry")
        architecture = describe_class(model_cls, config)
        with recipe(architecture) if path is None else nullcontext(path) as source:
            return self.register_model(name, version, source, architecture=architecture, **facts)

    def yank(self, name: str, version: str | Version, reason: str, *, actor: str | None = None) -> ModelVersion:
        """Let ranges, `latest` and `newest` pass a version over; who asks for it exactly, or by stage, still gets it.

        Raises:
            InvalidMetadataError: If *reason* is blank: whoever pinned the version is to read why.
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
        force: bool = False,
    ) -> Stage:
        """Point *stage* to the version that *reference* means now, and keep who did it and why.

        If the policy has a rule for *stage*, all of it must hold. If the stage is moved while that is found out, it is
        found out again.

        Args:
            name: The model.
            reference: As for `resolve`; another stage, as in `@staging`, moves its version on.
            stage: Any name of small letters, digits and `_-` that is neither a range nor a keyword.
            reason: Why.
            actor: Who; the user of this process unless said otherwise.
            expected: Move only if *stage* points to this version, or, if it is "unset", to none yet.
            force: Promote whatever the policy objects to. It needs a *reason*, and the history keeps every objection.

        Raises:
            InvalidNameError: If *stage* cannot name a stage.
            PromotionRefusedError: If the policy objects; says every objection and what would help.
            YankedVersionError, RemovedVersionError: If the version has been yanked, or its files were removed.
            StageConflictError: If the stage does not point to what was *expected*; and as `resolve`.
        """
        open_door("mlc_registry")
        return promoting.promote(
            self._backend, name, reference, stage, reason=reason, actor=actor, expected=expected, force=force
        )

    def rollback(self, name: str, stage: str, *, reason: str = "", actor: str | None = None) -> Stage:
        """Point *stage* back to the version before; once more goes back one more.

        The policy is not asked: that version has been there before, and the way back must be open at night.

        Raises:
            StageNotFoundError: If there is no such stage, or no version before.
            YankedVersionError, RemovedVersionError: If that version has been yanked, or its files were removed.
            StageConflictError: If somebody else moved the stage meanwhile.
        """
        open_door("mlc_registry")
        return promoting.rollback(self._backend, name, stage, reason=reason, actor=actor)

    def demote(
        self,
        name: str,
        stage: str,
        *,
        reason: str = "",
        actor: str | None = None,
        expected: str | Version | None = None,
    ) -> Stage:
        """Let *stage* point to nothing any more, and return what it was; the way back ends there.

        Args:
            name: The model.
            stage: The stage.
            reason: Why.
            actor: Who; the user of this process unless said otherwise.
            expected: Only if *stage* points to this version.

        Raises:
            ModelNotFoundError, StageNotFoundError: If there is no such stage, or it points to nothing already.
            StageConflictError: If the stage does not point to what was *expected*.
        """
        open_door("mlc_registry")
        return promoting.demote(self._backend, name, stage, reason=reason, actor=actor, expected=expected)

    # ------------------------------------------------------------------ the rest

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
        names.check_asked(name)
        check_reason(reason, needed=yanked)
        changed = self._backend.store.set_yanked(name, number, yanked=yanked, actor=name_actor(actor), reason=reason)
        if changed is None:
            raise misses.explain_miss(self._backend.store, name, read_reference(number))
        self._backend.refresh()
        return changed
