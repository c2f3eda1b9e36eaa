"""What mlc-registry asks plugins for, and what it tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlc_registry.protocols import PromotionCheck, Store
    from mlc_registry.records import ModelVersion, Stage

# mypy: disable-error-code="empty-body"


@hookspec
def mlc_registry_stores() -> Mapping[str, Callable[..., Store]]:
    """Offer databases for the facts of a registry, by URL scheme.

    Each factory takes the URL and, by keyword, *create*: if it is false and there is no registry, it raises
    `RegistryNotFoundError` and makes nothing.
    """


@hookspec
def mlc_promotion_checks() -> Mapping[str, Callable[..., PromotionCheck]]:
    """Offer checks for the policy of stages, by name. The policy's options are passed by keyword.

    A factory refuses options that cannot be meant, by raising; the policy is not kept then.
    """


@hookspec
def mlc_model_migrations() -> Mapping[str, Callable[[], Path]]:
    """Offer directories of migration scripts, by the name of the model.

    Each factory returns a directory with files such as `1_to_2.py`, which lead from one major version to another.
    """


@hookspec
def mlc_model_registered(model: ModelVersion, path: Path) -> None:
    """Hear of a new version, once it is published; *path* is its file or directory.

    Where the artifacts are behind a URL there is nothing at *path* until `get_model_path` has brought it.
    """


@hookspec
def mlc_model_promoted(model: ModelVersion, before: Stage | None, after: Stage) -> None:
    """Hear that the stage *after* points to *model* now, be it forwards or back; *before* is what it was."""


@hookspec
def mlc_model_demoted(before: Stage) -> None:
    """Hear that a stage points to nothing any more; *before* is what it was."""
