"""The half of a registry that leads to its rooms, each made when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_registry.artifacts.room import ArtifactRoom
    from mlc_registry.backend import Backend
    from mlc_registry.dependencies.room import Dependencies
    from mlc_registry.directories.view import View
    from mlc_registry.history.archive import Archive
    from mlc_registry.history.audit import Audit
    from mlc_registry.history.outbox import Outbox
    from mlc_registry.migrations.scripts import Migrations
    from mlc_registry.promotion.gatekeeper import Gatekeeper
    from mlc_registry.records import ModelVersion
    from mlc_registry.releases.room import Releases
    from mlc_registry.retention.room import Retention
    from mlc_registry.signing import Signing

__all__ = ["RegistryRooms"]


class RegistryRooms:
    """Leads to what can be done with published models beside publishing and finding them."""

    _backend: Backend
    _root: str
    register_model: Callable[..., ModelVersion]

    @property
    def artifacts(self) -> ArtifactRoom:
        """Where the published files are."""
        from mlc_registry.artifacts.room import ArtifactRoom

        return ArtifactRoom(self._backend)

    @property
    def policy(self) -> Gatekeeper:
        """What may be promoted to which stage, and who has approved it."""
        from mlc_registry.promotion.gatekeeper import Gatekeeper

        return Gatekeeper(self._backend)

    @property
    def releases(self) -> Releases:
        """Notes, tags, differences, changelogs, and the number for the next version."""
        from mlc_registry.releases.room import Releases

        return Releases(self._backend)

    @property
    def migrations(self) -> Migrations:
        """What turns the files of one major version into those of another."""
        from mlc_registry.migrations.scripts import Migrations

        return Migrations(self._backend, self.register_model)

    @property
    def view(self) -> View:
        """The directories for people.

        Raises:
            StoreError: If there are none.
        """
        if self._backend.view is None:
            msg = f"{self._root} is no place for directories; say where they go, with view=DIRECTORY (--view)"
            raise StoreError(msg)
        return self._backend.view

    @property
    def audit(self) -> Audit:
        """The history of all models, which can be proved."""
        from mlc_registry.history.audit import Audit

        return Audit(self._backend.store)

    @property
    def dependencies(self) -> Dependencies:
        """Which versions of models work together, who needs whom, and lock files."""
        from mlc_registry.dependencies.room import Dependencies

        return Dependencies(self._backend, self._root)

    @property
    def retention(self) -> Retention:
        """Which versions nobody needs any more, and their removal."""
        from mlc_registry.retention.room import Retention

        return Retention(self._backend)

    @property
    def signing(self) -> Signing:
        """Signatures over the files of versions."""
        from mlc_registry.signing import Signing

        return Signing(self._backend)

    @property
    def outbox(self) -> Outbox:
        """Who hears of it."""
        from mlc_registry.history.outbox import Outbox

        return Outbox(self._backend.store)

    @property
    def archive(self) -> Archive:
        """All of it, to be saved in one file, or restored from one."""
        from mlc_registry.history.archive import Archive

        return Archive(self._backend.store, self._backend.artifacts, self._backend.view)
