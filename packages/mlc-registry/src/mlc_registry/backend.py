"""What every room of a registry stands on: the facts, the files, and how one leads to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_registry import misses
from mlc_registry.records import Resolved
from mlc_registry.references import read_reference
from mlc_registry.versions import Version

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_registry.artifacts import Artifacts
    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion
    from mlc_registry.references import Reference

__all__ = ["Backend"]


@attrs.frozen
class Backend:
    """A database for the facts, and a place for the files."""

    store: Store
    artifacts: Artifacts

    def find(self, name: str, wanted: Reference) -> ModelVersion:
        """Return the version of the model *name* that *wanted* means now.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If it leads nowhere; says what there is.
        """
        if wanted.exact is not None:
            found = self.store.find(name, wanted.exact)
        elif wanted.range is not None:
            found = self.store.highest(name, wanted.range.intervals)
        elif wanted.kind == "stage":
            found = self.store.find_staged(name, wanted.stage)
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
        return self.find(name, read_reference(str(Version.read(version))))

    def place(self, published: ModelVersion) -> Path:
        """Return the file or directory of *published*."""
        return self.artifacts.path(published.directory, published.entry)

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
        """Hash all files of *published*.

        Raises:
            CorruptArtifactError: If one is missing, changed or was never published; names each.
        """
        files = self.store.list_files(published.model, published.version)
        self.artifacts.check(f"{published.model} {published.version}", published.directory, files)

    def explain_nothing(self, name: str) -> tuple[()]:
        """Return nothing, if there is nothing to be had of a model that is there.

        Raises:
            ModelNotFoundError: If it is not.
        """
        if not self.store.list_versions(name, limit=1):
            raise misses.missing_model(self.store, name)
        return ()
