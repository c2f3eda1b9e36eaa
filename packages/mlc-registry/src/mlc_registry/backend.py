"""What every room of a registry stands on: the facts, the files, and how one leads to the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from mlc_registry import misses
from mlc_registry.artifacts.local import refuse_damage
from mlc_registry.errors import StoreError
from mlc_registry.names import check_asked
from mlc_registry.records import Resolved
from mlc_registry.semver.references import read_reference
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_registry.directories.view import View
    from mlc_registry.protocols import ArtifactStore, Searches, Statements, Store
    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.references import Reference

__all__ = ["Backend", "refuse_removed"]


@attrs.frozen
class Backend:
    """A database for the facts, and a place for the files."""

    store: Store
    artifacts: ArtifactStore
    view: View | None = None
    """The directories for people, if there are to be any."""

    @property
    def statements(self) -> Statements:
        """What is said about versions after they were published.

        Raises:
            StoreError: If the database keeps no such thing.
        """
        found: Statements | None = getattr(self.store, "statements", None)
        if found is None:
            msg = f"{type(self.store).__name__} keeps neither tags nor notes nor approvals"
            raise StoreError(msg)
        return found

    @property
    def searches(self) -> Searches:
        """Questions across models.

        Raises:
            StoreError: If the store answers none.
        """
        found: Searches | None = getattr(self.store, "searches", None)
        if found is None:
            msg = f"{type(self.store).__name__} cannot search across models"
            raise StoreError(msg)
        return found

    def find(self, name: str, wanted: Reference) -> ModelVersion:
        """Return the version of the model *name* that *wanted* means now.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If it leads nowhere; says what there is.
        """
        check_asked(name)
        if wanted.exact is not None:
            found = self.store.find(name, wanted.exact)
        elif wanted.range is not None:
            found = self.store.highest(name, wanted.range.intervals)
        elif wanted.kind == "stage":
            found = self.store.find_staged(name, wanted.stage)
        elif wanted.kind == "digest":
            found = self.store.find_digest(name, wanted.digest)
        else:
            found = self.store.newest(name)
        if found is None:
            raise misses.explain_miss(self.store, name, wanted)
        return found

    def get(self, name: str, version: str | Version) -> ModelVersion:
        """Return exactly one version, yanked or not.

        Raises:
            ModelNotFoundError, VersionNotFoundError: If it is not there.
        """
        return self.find(name, read_reference(Version.read(version)))

    def place(self, published: ModelVersion) -> Path:
        """Return where the file or directory of *published* is on this machine, or will be once it was fetched."""
        return self.artifacts.place(published)

    def fetch(self, published: ModelVersion, *, verify: bool = False) -> Path:
        """Return the file or directory of *published* on this machine, brought there if need be.

        Raises:
            RemovedVersionError: If it was removed for good.
            CorruptArtifactError: If it is missing, or, with *verify*, not what was published.
            StoreError: If it cannot be brought.
        """
        refuse_removed(published)
        return self.artifacts.fetch(
            published, partial(self.store.list_files, published.model, published.version), verify=verify
        )

    def resolve(self, published: ModelVersion, reference: str) -> Resolved:
        """Return what to pin when *reference* led to *published*."""
        return Resolved(
            model=published.model,
            version=published.version,
            digest=published.digest,
            path=self.place(published),
            reference=reference,
            yanked=published.yanked,
        )

    def verify(self, published: ModelVersion) -> None:
        """Hash all files of *published*, where they are kept.

        Raises:
            RemovedVersionError: If they were removed for good.
            CorruptArtifactError: If one is missing, changed or was never published; names each.
        """
        refuse_removed(published)
        files = self.store.list_files(published.model, published.version)
        damage = self.artifacts.find_damage(published.directory, files)
        refuse_damage(f"{published.model} {published.version}", damage)

    def refresh(self) -> None:
        """Let the directories for people show what was committed; call it after every change."""
        if self.view is not None:
            self.view.refresh()

    def explain_nothing(self, name: str) -> tuple[()]:
        """Return nothing, if there is nothing to be had of a model that is there.

        Raises:
            ModelNotFoundError: If it is not.
        """
        if not self.store.list_versions(name, limit=1):
            raise misses.missing_model(self.store, name)
        return ()


def refuse_removed(published: ModelVersion) -> None:
    """Refuse to read the files of a version that has none any more.

    Raises:
        RemovedVersionError: If they were removed.
    """
    if published.removed:
        raise misses.removed_version(published)
