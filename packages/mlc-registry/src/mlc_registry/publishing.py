"""From staged files to a published version, and what happens if it was published before."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import (
    InvalidNameError,
    RemovedVersionError,
    RepairedVersionWarning,
    UnchangedVersionWarning,
    VersionExistsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlc_registry.artifacts.local import Staged
    from mlc_registry.protocols import ArtifactStore, Store
    from mlc_registry.records import Draft, ModelVersion

__all__ = ["check_repeat", "identify", "publish", "repair"]


def publish(store: Store, artifacts: ArtifactStore, staged: Staged, draft: Draft) -> tuple[ModelVersion, bool]:
    """Put *staged* in place and commit *draft*, unless its version is there; return the one that is, and if it is new.

    The files are in place before the row that names them. They go again only if it is certain that no row does: a
    commit that failed may have succeeded.

    Raises:
        InvalidNameError: If the model's name differs from another's in case only.
        StoreError: If the disk or the database fails.
    """
    draft = attrs.evolve(draft, directory=artifacts.install(staged, draft.model, draft.version))
    try:
        published, is_new = store.publish(draft)
    except InvalidNameError:
        artifacts.discard(draft.directory)
        raise
    if not is_new:  # somebody else was first
        artifacts.discard(draft.directory)
    elif (owner := identify(store)) is not None:
        artifacts.claim(owner)
    return published, is_new


def repair(artifacts: ArtifactStore, staged: Staged, published: ModelVersion) -> None:
    """Put the files of *published* right from *staged*, which are the same files, where they are not what they were.

    Raises:
        StoreError: If they cannot be put right.

    Warns:
        RepairedVersionWarning: Says what was wrong.
    """
    if published.removed or staged.digest != published.digest:
        return
    damage = artifacts.repair(staged, published)
    if damage:
        what = f"{published.model} {published.version}"
        msg = f"{what} was not what was published, and was put right from these files:\n  " + "\n  ".join(damage)
        warnings.warn(msg, RepairedVersionWarning, stacklevel=3)


def identify(store: Store) -> str | None:
    """Return what tells a registry from every other, from its own copies too, if *store* knows."""
    found: str | None = getattr(store, "identity", None)
    return found


def check_repeat(published: ModelVersion, draft: Draft, list_differences: Callable[[], Sequence[str]]) -> None:
    """Warn if *draft*, with the files of *published*, says something else beside them, as *list_differences* tells.

    Raises:
        RemovedVersionError: If it was removed.
        VersionExistsError: If its files or its build metadata are others.
    """
    there = f"{published.model} {published.version}"
    _refuse_reuse(published)
    if published.digest != draft.digest:
        msg = (
            f"{there} was published with other files: it is {published.digest}, these are {draft.digest}. "
            "A published version is never edited; publish these under another number"
        )
        raise VersionExistsError(msg)
    if str(published.version) != str(draft.version):
        msg = (
            f"{there} is published, and {draft.version} differs from it in build metadata only, which is no new version"
        )
        raise VersionExistsError(msg)
    differing = list_differences()
    if differing:
        msg = f"{there} was published with the same files before; its {' and '.join(differing)} stayed as it was"
        warnings.warn(msg, UnchangedVersionWarning, stacklevel=3)


def _refuse_reuse(published: ModelVersion) -> None:
    """Refuse to publish a number whose version was removed.

    Raises:
        RemovedVersionError: If it was.
    """
    if published.removed:
        msg = (
            f"{published.model} {published.version} was published, and its files were removed for good "
            f"({published.yank_reason or 'no reason was given'}). A number is never used again; publish under another"
        )
        raise RemovedVersionError(msg)
