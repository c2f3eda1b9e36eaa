"""What may be promoted: what was trained on the right data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry import PolicyError

if TYPE_CHECKING:
    from mlc_registry import Promotion


class TrainedOn:
    """Looks at what was stated when the version was published."""

    def __init__(self, *, dataset: str) -> None:
        if not dataset:
            msg = "trained_on: give the name of a dataset"
            raise PolicyError(msg)
        self._dataset = dataset

    def object_to(self, promotion: Promotion) -> str:
        """Return what it was trained on instead."""
        stated = promotion.version.tracking.dataset
        if stated.partition("@")[0] == self._dataset:
            return ""
        said = f"it was trained on {stated}" if stated else "it does not say what it was trained on"
        return f"{said}; only {self._dataset} may get to {promotion.stage}"
