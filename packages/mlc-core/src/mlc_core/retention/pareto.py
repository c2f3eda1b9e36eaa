"""Keeping the best by several metrics at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.records import Monitor
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Saved

__all__ = ["KeepPareto"]


def _read_monitors(value: Any) -> tuple[Monitor, ...]:
    if not isinstance(value, Mapping) or not value:
        msg = f"metrics={value!r} must say a mode for each metric, as {{'loss': 'min', 'accuracy': 'max'}}"
        raise ConfigurationError(msg)
    return tuple(Monitor(metric=metric, mode=mode) for metric, mode in value.items())


@attrs.frozen(kw_only=True)
class KeepPareto(Composable):
    """Keep each checkpoint that no other one beats: at least as good in all *metrics*, better in one.

    `KeepPareto(metrics={"loss": "min", "accuracy": "max"})`. Of those equal in all, the earliest. One that has no
    number for each of them, or NaN, cannot be compared and is not kept.
    """

    metrics: tuple[Monitor, ...] = attrs.field(converter=_read_monitors)

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the front."""
        columns = [self._column(saved, monitor) for monitor in self.metrics]
        rows = zip(zip(*columns, strict=True), range(len(saved)), strict=True)
        measured = [row for row in rows if None not in row[0]]
        return {saved[position].id: self._describe(saved[position]) for position in _front(sorted(measured))}

    @staticmethod
    def _column(saved: Sequence[Saved], monitor: Monitor) -> list[Any]:
        """Return a value for each of *saved* such that less is better, or None."""
        metric, sign = monitor.metric, -1 if monitor.mode == "max" else 1
        values = [one.metrics.get(metric) for one in saved]
        return [None if value is None or value != value else sign * value for value in values]  # noqa: PLR0124  NaN

    def _describe(self, saved: Saved) -> str:
        values = ", ".join(f"{one.metric} {saved.metrics[one.metric]:.6g}" for one in self.metrics)
        return f"no other is better in all: {values}"


def _front(measured: Sequence[tuple[tuple[Any, ...], int]]) -> list[int]:
    """Return the positions of those that none beats. They are sorted, so what beats one comes before it."""
    front: list[tuple[tuple[float, ...], int]] = []
    for values, position in measured:
        if not front:
            front.append((values, position))
        elif len(values) == 2:  # the first is sorted and the least second so far is the last one's
            if values[1] < front[-1][0][1]:
                front.append((values, position))
        elif not any(all(map(float.__le__, other, values)) for other, _ in front):
            front.append((values, position))
    return [position for _, position in front]
