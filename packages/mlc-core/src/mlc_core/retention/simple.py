"""Policies of one rule each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.records import Monitor
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.records import Mode, Saved

__all__ = ["KeepAll", "KeepBest", "KeepBestAndLatest", "KeepLatest", "KeepUnrepeated", "rank"]


def _at_least_one(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        msg = f"{attribute.name}={value} must be 1 or more"
        raise ConfigurationError(msg)


def rank(saved: Sequence[Saved], monitor: Monitor) -> list[Saved]:
    """Return those of *saved* that have a number for the metric, best first, the earlier of two equals first."""
    measured = [(monitor.value(one.metrics), one) for one in saved]
    numbers = [(value, one) for value, one in measured if value is not None]
    sign = -1 if monitor.mode == "max" else 1
    return [one for _, one in sorted(numbers, key=lambda pair: (sign * pair[0], pair[1].sequence))]


@attrs.frozen
class KeepAll(Composable):
    """Keep everything."""

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep all of *saved*."""
        return {one.id: "everything is kept" for one in saved}


@attrs.frozen(kw_only=True)
class KeepLatest(Composable):
    """Keep the *count* checkpoints that were committed last, of all or of those at the end of an epoch."""

    count: int = attrs.field(default=1, validator=_at_least_one)
    epoch_ends_only: bool = False

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the end of *saved*."""
        chosen = [one for one in saved if one.epoch_ended or not self.epoch_ends_only][-self.count :]
        what = " at the end of an epoch" if self.epoch_ends_only else ""
        reason = f"the latest{what}" if self.count == 1 else f"one of the latest {self.count}{what}"
        return {one.id: reason for one in chosen}


@attrs.frozen
class KeepUnrepeated(Composable):
    """Keep of each epoch, and of each step within one, what was committed last: what was trained again is replaced."""

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the last of each."""
        last = {_moment(one): one for one in saved}
        return {one.id: "not trained again since" for one in last.values()}


def _moment(saved: Saved) -> tuple[object, ...]:
    if saved.epoch is None and saved.step is None:
        return (saved.id,)  # nothing says when it was, so nothing repeats it
    return (saved.epoch, saved.epoch_ended, None if saved.epoch_ended and saved.epoch is not None else saved.step)


@attrs.frozen(kw_only=True)
class KeepBest(Composable):
    """Keep the *count* checkpoints with the best *metric*; one without a number for it is never among them."""

    metric: str
    mode: Mode
    count: int = attrs.field(default=1, validator=_at_least_one)

    def __attrs_post_init__(self) -> None:
        Monitor(metric=self.metric, mode=self.mode)  # refuses a wrong mode now, not at the first save

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the top of the ranking; the earlier of two equals ranks higher."""
        best = rank(saved, Monitor(metric=self.metric, mode=self.mode))[: self.count]
        word = "the best" if self.count == 1 else f"one of the best {self.count} by"
        return {one.id: f"{word} {self.metric} ({one.metrics[self.metric]:.6g})" for one in best}


@attrs.frozen(kw_only=True)
class KeepBestAndLatest(Composable):
    """Keep the best and the latest, then the ones before the latest, *count* in all: what `max_checkpoints` means.

    What was trained again counts once, the newer time, unless the older one is the best. Where best and latest are
    two, both stay, even with a *count* of 1. Without a *metric* there is no best.
    """

    count: int = attrs.field(validator=_at_least_one)
    metric: str | None = None
    mode: Mode | None = None

    def __attrs_post_init__(self) -> None:
        if (self.metric is None) != (self.mode is None):
            msg = f"metric={self.metric!r} and mode={self.mode!r} go together"
            raise ConfigurationError(msg)
        self._best([])  # refuses a wrong mode now

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the best, then from the end of *saved*."""
        best = self._best(saved)
        unrepeated = KeepUnrepeated().keep(saved)
        newest_first = [one.id for one in reversed(saved) if one.id in unrepeated]
        needed = {**best, **dict.fromkeys(newest_first[:1])}
        ordered = list(dict.fromkeys([*best, *newest_first]))
        latest = {one: "the latest" if one == saved[-1].id else "one of the latest" for one in newest_first}
        return {
            one: "; ".join(reason for reason in (best.get(one), latest.get(one)) if reason)
            for one in ordered[: max(self.count, len(needed))]
        }

    def _best(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        if self.metric is None or self.mode is None:
            return {}
        return KeepBest(metric=self.metric, mode=self.mode).keep(saved)
