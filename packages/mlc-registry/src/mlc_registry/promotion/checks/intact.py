"""The published files must be what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry.errors import CorruptArtifactError

if TYPE_CHECKING:
    from mlc_registry.records import Promotion

__all__ = ["Intact"]


class Intact:
    """Hashes all files of the version."""

    def object_to(self, promotion: Promotion) -> str:
        """Return which files are not what was published."""
        try:
            promotion.verify()
        except CorruptArtifactError as error:
            return f"{error}\nRestore the files from a copy of the registry"
        return ""
