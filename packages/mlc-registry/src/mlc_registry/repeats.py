"""Publishing a version that is there already: a success if nothing differs, and never an edit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from mlc_registry.errors import UnchangedVersionWarning, VersionExistsError

if TYPE_CHECKING:
    from mlc_registry.records import Draft, ModelVersion

__all__ = ["check_repeat"]


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
