"""Strategies that look at the running time, by a clock that never goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.strategies.checks import positive
from mlc_core.strategies.stateful import Stateful, number

if TYPE_CHECKING:
    from mlc_core.records import Moment

__all__ = ["SinceLastSave", "TimeBased"]


@attrs.define
class SinceLastSave(Stateful):
    """Knows how long nothing was saved; a checkpoint that was removed since has still been saved."""

    _last: float = attrs.field(default=0.0, init=False, eq=False, repr=False, validator=number)

    def seconds(self, moment: Moment) -> float:
        """Return the running time since anyone's last save began; before the first one, since the start."""
        return moment.elapsed - max(self._last, 0.0 if moment.latest is None else moment.latest.elapsed)

    def begin_anew(self, moment: Moment) -> None:
        """Count from here: *moment* is saved."""
        self._last = moment.elapsed


@attrs.define(kw_only=True)
class TimeBased(SinceLastSave):
    """Save every *minutes* of running time; the clock on the wall and the time between restarts do not count."""

    minutes: float = attrs.field(default=30.0, validator=positive)

    def should_save(self, moment: Moment) -> str | None:
        """Say that the time has passed."""
        if moment.exception is not None or self.seconds(moment) < self.minutes * 60:
            return None
        self.begin_anew(moment)
        return f"{self.minutes:g} minutes of running time since the last save"
