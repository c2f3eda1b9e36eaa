"""Where the published files are, and what is to be cleared away there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import RetentionError, StoreError
from mlc_registry.publishing import identify
from mlc_registry.requirements import require_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_registry.backend import Backend
    from mlc_registry.records import Leftover, ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["ArtifactRoom"]

DAY = timedelta(days=1)
PAGE = 1000


@attrs.frozen
class ArtifactRoom:
    """The artifact store of a registry."""

    _backend: Backend

    @property
    def url(self) -> str:
        """The directory, or the address of the storage."""
        return self._backend.artifacts.url

    def locate(self, published: ModelVersion) -> str:
        """Return where the file or directory of *published* is kept, for people."""
        return f"{self.url}/{published.directory}/{published.entry}".rstrip("/")

    def sweep(self, *, older_than: timedelta = DAY, dry_run: bool = True) -> Sequence[Leftover]:
        """Find what publishers that were killed have left, and remove it unless *dry_run*.

        What a living publisher is working on is never touched, however long it takes: it holds a lock that its end
        frees. Published files are what rows name; whatever else `register_model` has put in place goes.

        Args:
            older_than: Leave what was touched more recently. A day gives a database server that lost its client the
                time to finish the commit.
            dry_run: Only look.

        Raises:
            RetentionError: If *older_than* is no time.
            StoreError: If another registry keeps files in the same place, since its files would look like leftovers;
                or if nobody can tell who is at work.
        """
        require_kind(older_than, timedelta, "older_than: a timedelta, as timedelta(hours=24),", error=RetentionError)
        owners = self._backend.artifacts.owners()
        strangers = owners - {identify(self._backend.store)}
        if strangers:
            msg = (
                f"{self.url} is used by {len(strangers)} other registries, whose files would look like leftovers; "
                "nothing was swept. Give each registry artifacts of its own"
            )
            raise StoreError(msg)
        return self._backend.artifacts.sweep(self._list_directories, older_than=older_than, dry_run=dry_run)

    def _list_directories(self, model: str) -> Iterator[str]:
        """Return the directories of all versions of *model* but those whose files were removed."""
        below: Version | None = None
        while True:
            page = self._backend.store.list_versions(model, limit=PAGE, below=below)
            for one in page:
                if not one.removed:
                    yield one.directory
            if len(page) < PAGE:
                return
            below = page[-1].version
