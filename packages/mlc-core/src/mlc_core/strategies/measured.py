"""Strategies that measure what a save costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.checks import positive
from mlc_core.strategies.stateful import number
from mlc_core.strategies.timed import SinceLastSave

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.records import Moment

__all__ = ["OverheadBudget", "YoungDaly", "daly_interval"]


@attrs.define
class _Measuring(SinceLastSave):
    _cost: float | None = attrs.field(default=None, init=False, eq=False, repr=False, validator=number)

    def ask(self, moment: Moment, judge: Callable[[float, float], str | None]) -> str | None:
        """Return what *judge* says of the cost and the seconds since the last save; the first save is to measure it."""
        if moment.save_seconds is not None:
            self._cost = moment.save_seconds
        if moment.exception is not None or moment.saving:
            return None
        reason = "to measure what a save costs" if self._cost is None else judge(self._cost, self.seconds(moment))
        if reason is not None:
            self.begin_anew(moment)
        return reason


@attrs.define(kw_only=True)
class OverheadBudget(_Measuring):
    """Save as often as costs at most *percent* of the running time.

    What a save costs is how long the last one kept the training waiting, also before a restart. As long as that is
    not known it saves, to measure it: at the first moment, and once more if the process ended right after that. While
    an asynchronous save is under way it waits.
    """

    percent: float = attrs.field(default=2.0, validator=positive)

    def __attrs_post_init__(self) -> None:
        if self.percent > 100:
            msg = f"percent={self.percent} must not be above 100"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Say that the time since the last save pays for this one."""
        return self.ask(moment, self._judge)

    def _judge(self, cost: float, seconds: float) -> str | None:
        if seconds * self.percent < cost * 100:
            return None
        return f"a save takes {cost:.3g} s, at most {self.percent:g} % of the {seconds:.3g} s since the last one"


@attrs.define(kw_only=True)
class YoungDaly(_Measuring):
    """Save at the interval that loses least time where something fails every *mtbf_hours* on average.

    The interval is Daly's. What a save costs is measured as by `OverheadBudget`, and so it waits while one is under
    way.
    """

    mtbf_hours: float = attrs.field(validator=positive)
    """The mean time between failures of the whole job: of one machine, divided by the number of machines."""

    def should_save(self, moment: Moment) -> str | None:
        """Say which interval has passed."""
        return self.ask(moment, self._judge)

    def _judge(self, cost: float, seconds: float) -> str | None:
        interval = daly_interval(cost, self.mtbf_hours * 3600)
        if seconds < interval + cost:  # the last save itself is no work
            return None
        return f"every {interval:.3g} s, for a save takes {cost:.3g} s and a failure comes every {self.mtbf_hours:g} h"


def daly_interval(cost: float, mtbf: float) -> float:
    """Return the seconds of work between two saves of *cost* seconds that lose least where failures come every *mtbf*.

    J. W. Young, "A first order approximation to the optimum checkpoint interval", Communications of the ACM 17 (1974),
    found `sqrt(2 * cost * mtbf)`. J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
    dumps", Future Generation Computer Systems 22 (2006), added the terms that matter once a save takes
    more than a small part of the time between failures.
    """
    share = cost / (2 * mtbf)
    if share >= 1:
        return mtbf
    return math.sqrt(2 * cost * mtbf) * (1 + math.sqrt(share) / 3 + share / 9) - cost
