"""Which checkpoints were measured, and which of them are better."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Monitor, Saved

__all__ = ["best_of", "rank"]


def rank(saved: Sequence[Saved], monitor: Monitor) -> list[Saved]:
    """Return those of *saved* that have a number for the metric, best first, the earlier of two equals first."""
    return [saved[position] for *_, position in sorted(_keys(saved, monitor))]


def best_of(saved: Sequence[Saved], monitor: Monitor, count: int) -> list[Saved]:
    """Return the first *count* of the ranking without ranking the others."""
    keys = _keys(saved, monitor)
    first = [min(keys)] if keys and count == 1 else heapq.nsmallest(count, keys)
    return [saved[position] for *_, position in first]


def _keys(saved: Sequence[Saved], monitor: Monitor) -> list[tuple[float, int, int]]:
    """Return what sorts best first: the value, the commit, and the position in *saved*."""
    metric, sign = monitor.metric, -1 if monitor.mode == "max" else 1
    return [
        (sign * value, one.sequence, position)
        for position, one in enumerate(saved)
        if (value := one.metrics.get(metric)) is not None and value == value  # noqa: PLR0124  NaN is not itself
    ]
