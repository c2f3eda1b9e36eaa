"""People must be able to read what a version is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc_registry.records import Promotion

__all__ = ["Described"]


class Described:
    """Looks for release notes or a description."""

    def object_to(self, promotion: Promotion) -> str:
        """Return that there is neither."""
        if promotion.notes.strip() or promotion.version.description.strip():
            return ""
        return "it has neither release notes nor a description; write notes for it"
