"""Saving as often as the monitored metric moves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.checks import at_least_one, not_negative
from mlc_core.strategies.counting import CountsEpochs
from mlc_core.strategies.monitored import Best
from mlc_core.strategies.stateful import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.records import Moment

__all__ = ["Adaptive"]

FOUND = {True: "moved", False: "settled", None: "cannot be compared"}


@attrs.define(kw_only=True)
class Adaptive(CountsEpochs):
    """Save often while the monitored metric moves, rarely when it has settled, and always a new best.

    The metric has moved if its relative change since the last save, `|now - then| / max(|now|, |then|)`, is above
    *tolerance*. At the end of each epoch at which it has moved, the interval between saves halves; each time that the
    interval has passed without that, it is saved and the interval doubles. So a settled run is saved every *longest*
    epochs, and when it moves again that is noticed within a few. The interval begins at *shortest*.

    Where the metric is missing, NaN or infinite, it has neither moved nor settled, and the interval stays.
    """

    shortest: int = attrs.field(default=1, validator=at_least_one)
    """Epochs between saves at least; a new best does not wait."""
    longest: int = attrs.field(default=16, validator=at_least_one)
    """Epochs between saves at most."""
    tolerance: float = attrs.field(default=0.01, validator=not_negative)
    _interval: int = attrs.field(init=False, eq=False, repr=False, validator=number)
    _value: float | None = attrs.field(default=None, init=False, eq=False, repr=False, validator=number)

    @_interval.default
    def _begin_short(self) -> int:
        return self.shortest

    def __attrs_post_init__(self) -> None:
        if self.shortest > self.longest:
            msg = f"shortest={self.shortest} must not be above longest={self.longest}"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Say that it is the best, or how long nothing was saved and how the metric moved meanwhile."""
        if moment.exception is not None:
            return None
        before = self._sequence
        epochs = self.count_epochs(moment)
        if self._sequence != before and moment.latest is not None:  # somebody saved, perhaps not this strategy
            self._keep_value(_finite(moment, moment.latest.metrics))
        value = _finite(moment, moment.metrics)
        moved = _moved(value, self._value, self.tolerance)
        if moved and moment.epoch_ended:
            self._interval //= 2
        self._interval = min(max(self._interval, self.shortest), self.longest)  # options may change between restarts
        due = moment.epoch_ended and epochs >= self._interval
        best = Best().should_save(moment)
        if not due:
            if best:
                self._save(value)
            return best
        if moved is False:
            self._interval = min(self._interval * 2, self.longest)
        self._save(value)
        return "; ".join(reason for reason in (best, _describe(moment, epochs, FOUND[moved])) if reason)

    def _save(self, value: float | None) -> None:
        self.begin_anew()
        self._keep_value(value)

    def _keep_value(self, value: float | None) -> None:
        self._value = self._value if value is None else value


def _finite(moment: Moment, metrics: Mapping[str, float]) -> float | None:
    value = None if moment.monitor is None else moment.monitor.value(metrics)
    return value if value is not None and math.isfinite(value) else None


def _moved(value: float | None, before: float | None, tolerance: float) -> bool | None:
    """Say whether the metric moved, or None where that cannot be known."""
    if value is None or before is None:
        return None
    return abs(value / 2 - before / 2) > tolerance * (max(abs(value), abs(before)) / 2)  # halves never overflow


def _describe(moment: Moment, epochs: int, found: str) -> str:
    passed = f"{epochs} epochs since the last save" if epochs > 1 else "1 epoch since the last save"
    if moment.monitor is None:
        return f"{passed}, nothing monitored"
    return f"{passed}, {moment.monitor.metric} {found}"
