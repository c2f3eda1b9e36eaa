"""Saving when the monitored metric has improved enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from mlc_core.strategies.checks import at_least_one, not_negative
from mlc_core.strategies.counting import CountsEpochs

if TYPE_CHECKING:
    from mlc_core.records import Moment

__all__ = ["PerformanceBased"]


@attrs.define(kw_only=True)
class PerformanceBased(CountsEpochs):
    """Save when the monitored metric is better than the best checkpoint by *improvement*, and every *longest* epochs.

    The first number there is counts as an improvement. NaN and a missing metric never do; a number is any improvement
    over an infinite one. Small improvements add up, for the best checkpoint stays what they are measured against.
    """

    improvement: float = attrs.field(default=0.005, validator=not_negative)
    """How much better it must be: a share of the best value, or the difference itself where not *relative*."""
    relative: bool = True
    longest: int = attrs.field(default=10, validator=at_least_one)
    """Epochs without a save at most."""

    def should_save(self, moment: Moment) -> str | None:
        """Say from what to what it improved, or how long nothing was saved."""
        if moment.exception is not None:
            return None
        epochs = self.count_epochs(moment)
        reason = self._improved(moment)
        if reason is None and moment.epoch_ended and epochs >= self.longest:
            reason = f"{epochs} epochs since the last save"
        if reason is not None:
            self.begin_anew()
        return reason

    def _improved(self, moment: Moment) -> str | None:
        if moment.monitor is None or not moment.improved:
            return None
        metric = moment.monitor.metric
        value = moment.metrics[metric]
        best = None if moment.best is None else moment.monitor.value(moment.best.metrics)
        if best is None:
            return f"first {metric}: {value:.6g}"
        needed = self.improvement * (abs(best) if self.relative else 1)
        if math.isfinite(best) and abs(value - best) < needed:
            return None
        return f"{metric} improved from {best:.6g} to {value:.6g}"
