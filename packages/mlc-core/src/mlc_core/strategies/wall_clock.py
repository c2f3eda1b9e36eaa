"""Saving by the clock on the wall."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.checks import positive, read_names
from mlc_core.strategies.stateful import Stateful, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.records import Moment

__all__ = ["WallClock"]

TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def _read_times(value: Any) -> tuple[str, ...]:
    found = read_names(value)
    for one in found:
        if not TIME_OF_DAY.fullmatch(one):
            msg = f"at={one!r} is no time of day; write it as '06:30' or '18:00'"
            raise ConfigurationError(msg)
    return tuple(sorted(set(found)))


@attrs.define(kw_only=True)
class WallClock(Stateful):
    """Save at the local times of day *at*, or every *hours* by the clock on the wall, also counted while nothing runs.

    At most one save follows from whatever the clock does: when it jumps ahead over several times, the next moment is
    saved once; when it is put back, time is counted anew from there. A time of day that the change to summer time
    leaves out comes an hour later; one that comes twice counts the first time.
    """

    at: tuple[str, ...] = attrs.field(default=(), converter=_read_times)
    hours: float | None = attrs.field(default=None, validator=attrs.validators.optional(positive))
    clock: Callable[[], float] = attrs.field(default=time.time, eq=False, repr=False)
    """Seconds since 1970."""
    _since: float | None = attrs.field(default=None, init=False, eq=False, repr=False, validator=number)
    """When the last save was, or the first moment, or the first one after the clock was put back."""

    def __attrs_post_init__(self) -> None:
        if bool(self.at) == (self.hours is not None):
            msg = f"at={list(self.at)} and hours={self.hours}: give one of them, as at=['06:30', '18:00'] or hours=2"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Say which time has come."""
        if moment.exception is not None:
            return None
        now = self.clock()
        if self._since is None or now < self._since:
            self._since = now
            return None
        reason = self._due(now, self._since)
        if reason is not None:
            self._since = now
        return reason

    def _due(self, now: float, since: float) -> str | None:
        if self.hours is not None:
            return f"{self.hours:g} hours since the last save" if now - since >= self.hours * 3600 else None
        passed = [(moment, text) for text in self.at for moment in _around(now, text) if since < moment <= now]
        return f"it is past {max(passed)[1]}" if passed else None


def _around(now: float, text: str) -> tuple[float, float]:
    """Return when it was *text* yesterday and when it is today."""
    hour, minute = map(int, text.split(":"))
    today = time.localtime(now)
    day = (today.tm_year, today.tm_mon, today.tm_mday)
    return _local(*day[:2], day[2] - 1, hour, minute), _local(*day, hour, minute)


def _local(year: int, month: int, day: int, hour: int, minute: int) -> float:
    return time.mktime((year, month, day, hour, minute, 0, 0, 0, -1))  # takes day 0 for the end of the month before
