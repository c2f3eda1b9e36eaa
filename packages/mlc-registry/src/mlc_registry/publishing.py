"""From staged files to a published version, and what happens if it was published before."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import InvalidNameError, UnchangedVersionWarning, VersionExistsError
from mlc_registry.ranges import Range

if TYPE_CHECKING:
    from mlc_registry.artifacts import Artifacts, Staged
    from mlc_registry.protocols import Store
    from mlc_registry.records import Draft, ModelVersion

__all__ = ["check_repeat", "link_latest", "publish"]

RELEASES = Range.parse("*").intervals


def publish(store: Store, artifacts: Artifacts, staged: Staged, draft: Draft) -> tuple[ModelVersion, bool]:
    """Put *staged* in place and commit *draft*, unless its version is there; return the one that is, and if it is new.

    The files are in place before the row that names them. They go again only if it is certain that no row does: a
    commit that failed may have succeeded.

    Raises:
        InvalidNameError: If the model's name differs from another's in case only.
        StoreError: If the disk or the database fails.
    """
    there = store.find(draft.model, draft.version)
    if there is not None:
        return there, False
    draft = attrs.evolve(draft, directory=artifacts.install(staged, draft.model, draft.version))
    try:
        published, is_new = store.publish(draft)
    except InvalidNameError:
        artifacts.discard(draft.directory)
        raise
    if not is_new:  # somebody else was first
        artifacts.discard(draft.directory)
    return published, is_new


def check_repeat(published: ModelVersion, draft: Draft, *, metadata_given: bool) -> None:
    """Warn if *draft*, with the files of *published*, says something else beside them.

    Raises:
        VersionExistsError: If its files or its build metadata are others.
    """
    there = f"{published.model} {published.version}"
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
    differing = [
        *(["metadata"] if metadata_given and published.metadata != draft.metadata else []),
        *(["description"] if draft.description not in {"", published.description} else []),
    ]
    if differing:
        msg = f"{there} was published with the same files before; its {' and '.join(differing)} stayed as it was"
        warnings.warn(msg, UnchangedVersionWarning, stacklevel=3)


def link_latest(store: Store, artifacts: Artifacts, name: str) -> None:
    """Let the link `latest` of the model *name* lead to its highest release."""
    linked: str | None = ""
    while True:
        latest = store.highest(name, RELEASES)
        directory = None if latest is None else latest.directory
        if directory == linked:
            return
        artifacts.point_latest(name, directory)
        linked = directory  # and look again: another process may have published meanwhile, and linked before us
