"""What a version says that was measured: what gates compare and searches find, which is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_registry.records import Draft, ModelVersion

__all__ = ["LONGEST", "list_metrics", "metrics_of"]

LONGEST = 1000
"""Characters of a name or an address that is searched for."""


def metrics_of(published: ModelVersion | Draft) -> dict[str, float]:
    """Return the metrics of *published* by name: those of `tracking.metrics`, and those of `metadata["metrics"]`.

    Where both name one, the first says it. What is no finite number is none.
    """
    return list_metrics(published.metadata, published.tracking.metrics)


def list_metrics(metadata: Mapping[str, Any], tracked: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that *metadata* states, and those that were *tracked*."""
    stated = metadata.get("metrics")
    found = {
        name: float(value)
        for name, value in (stated.items() if isinstance(stated, Mapping) else ())
        if _is_name(name) and _is_number(value)
    }
    return {**found, **tracked}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST and name.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
