"""What mlc-registry asks plugins for, and what it tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion, Stage

# mypy: disable-error-code="empty-body"


@hookspec
def mlc_registry_stores() -> Mapping[str, Callable[..., Store]]:
    """Offer databases for the facts of a registry, by URL scheme.

    Each factory takes the URL and, by keyword, *create*: if it is false and there is no registry, it raises
    `RegistryNotFoundError` and makes nothing.
    """


@hookspec
def mlc_model_registered(model: ModelVersion, path: Path) -> None:
    """Hear of a new version, once it is published; *path* is its file or directory."""


@hookspec
def mlc_model_promoted(model: ModelVersion, before: Stage | None, after: Stage) -> None:
    """Hear that the stage *after* points to *model* now, be it forwards or back; *before* is what it was."""
