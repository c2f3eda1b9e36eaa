"""The half of a registry that changes nothing: every question that can be asked of it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from mlc_registry.errors import CorruptArtifactError, YankedVersionWarning
from mlc_registry.references import read_reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlc_registry.backend import Backend
    from mlc_registry.records import Change, File, Model, ModelVersion, Resolved, Stage
    from mlc_registry.versions import Version

__all__ = ["RegistryReader"]


class RegistryReader:
    """Finds published versions of models; every method asks the database."""

    _backend: Backend

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
            self._backend.verify(self._backend.get(name, found.version))
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
        self._backend.verify(self._backend.get(name, found.version))
        return found

    def get(self, name: str, version: str | Version) -> ModelVersion:
        """Return everything that is known about one version, yanked or not.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._backend.get(name, version)

    def list_models(self) -> Sequence[Model]:
        """Return all models by name."""
        return self._backend.store.list_models()

    def list_versions(self, name: str, *, limit: int | None = None) -> Sequence[ModelVersion]:
        """Return the versions of a model, yanked ones too, the highest first and at most *limit*.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._backend.store.list_versions(name, limit=limit) or self._backend.explain_nothing(name)

    def list_files(self, name: str, version: str | Version) -> Sequence[File]:
        """Return the files of a version by path, with their digests.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self._backend.store.list_files(name, self.get(name, version).version)

    def stages(self, name: str) -> Sequence[Stage]:
        """Return the stages of a model by name.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._backend.store.list_stages(name) or self._backend.explain_nothing(name)

    def history(self, name: str, *, stage: str | None = None) -> Sequence[Change]:
        """Return what happened to a model, or to one of its stages, in that order.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        return self._backend.store.list_changes(name, stage=stage) or self._backend.explain_nothing(name)

    def _resolve(self, name: str, reference: str | Version, *, include_prereleases: bool) -> Resolved:
        wanted = read_reference(str(reference), include_prereleases=include_prereleases)
        found = self._backend.find(name, wanted)
        if found.yanked:
            msg = f"{name} {found.version} was yanked: {found.yank_reason or 'no reason was given'}"
            warnings.warn(msg, YankedVersionWarning, stacklevel=3)  # the caller of the method that called this
        return self._backend.resolve(found, wanted.text)
