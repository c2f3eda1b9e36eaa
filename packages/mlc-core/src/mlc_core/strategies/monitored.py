"""Strategies that look at the monitored metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.strategies.stateless import Stateless

if TYPE_CHECKING:
    from mlc_core.records import Moment

__all__ = ["All", "Best"]


@attrs.frozen
class Best(Stateless):
    """Save when the monitored metric is better than at any checkpoint before; NaN and nothing never are."""

    def should_save(self, moment: Moment) -> str | None:
        """Say by which metric it is the best."""
        if not moment.improved or moment.monitor is None or moment.exception is not None:
            return None
        metric = moment.monitor.metric
        return f"best {metric} so far: {moment.metrics[metric]:.6g}"


@attrs.frozen
class All(Stateless):
    """Save the best and every epoch."""

    def should_save(self, moment: Moment) -> str | None:
        """Say whether it is the best or the end of an epoch."""
        if moment.exception is not None:
            return None
        return Best().should_save(moment) or ("end of the epoch" if moment.epoch_ended else None)
