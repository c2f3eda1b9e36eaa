"""Policies of one rule each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.records import Monitor
from mlc_core.retention.checks import at_least_one
from mlc_core.retention.combined import Composable
from mlc_core.retention.ranking import best_of, rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlc_core.records import Mode, Saved

__all__ = ["KeepAll", "KeepBest", "KeepBestAndLatest", "KeepLatest", "KeepUnrepeated", "rank"]


@attrs.frozen
class KeepAll(Composable):
    """Keep everything."""

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep all of *saved*."""
        return {one.id: "everything is kept" for one in saved}


@attrs.frozen(kw_only=True)
class KeepLatest(Composable):
    """Keep the *count* checkpoints that were committed last, of all or of those at the end of an epoch."""

    count: int = attrs.field(default=1, validator=at_least_one)
    epoch_ends_only: bool = False

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the end of *saved*."""
        chosen = [one for one in saved if one.epoch_ended] if self.epoch_ends_only else saved
        what = " at the end of an epoch" if self.epoch_ends_only else ""
        reason = f"the latest{what}" if self.count == 1 else f"one of the latest {self.count}{what}"
        return {one.id: reason for one in chosen[-self.count :]}


@attrs.frozen
class KeepUnrepeated(Composable):
    """Keep of each epoch and step what was committed last: what was trained again is replaced."""

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the last of each."""
        return {one.id: "not trained again since" for one in _unrepeated(saved)}


def _unrepeated(saved: Sequence[Saved]) -> Iterator[Saved]:
    """Yield the last of each moment, newest first."""
    seen = set()
    for one in reversed(saved):
        moment = _moment(one)
        if moment not in seen:
            seen.add(moment)
            yield one


def _moment(saved: Saved) -> tuple[object, ...]:
    if saved.epoch is None and saved.step is None:
        return (saved.id,)  # nothing says when it was, so nothing repeats it
    return (saved.epoch, saved.epoch_ended, saved.step)


@attrs.frozen(kw_only=True)
class KeepBest(Composable):
    """Keep the *count* checkpoints with the best *metric*; one without a number for it is never among them."""

    metric: str
    mode: Mode
    count: int = attrs.field(default=1, validator=at_least_one)

    def __attrs_post_init__(self) -> None:
        Monitor(metric=self.metric, mode=self.mode)  # refuses a wrong mode now, not at the first save

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the top of the ranking; the earlier of two equals ranks higher."""
        best = best_of(saved, Monitor(metric=self.metric, mode=self.mode), self.count)
        word = "the best" if self.count == 1 else f"one of the best {self.count} by"
        return {one.id: f"{word} {self.metric} ({one.metrics[self.metric]:.6g})" for one in best}


@attrs.frozen(kw_only=True)
class KeepBestAndLatest(Composable):
    """Keep the best and the latest, then the ones before the latest, *count* in all: what `max_checkpoints` means.

    What was trained again counts once, the newer time, unless the older one is the best. Where best and latest are
    two, both stay, even with a *count* of 1. Without a *metric* there is no best.
    """

    count: int = attrs.field(validator=at_least_one)
    metric: str | None = None
    mode: Mode | None = None

    def __attrs_post_init__(self) -> None:
        if (self.metric is None) != (self.mode is None):
            msg = f"metric={self.metric!r} and mode={self.mode!r} go together"
            raise ConfigurationError(msg)
        self._best([])  # refuses a wrong mode now

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the best, then from the end of *saved*."""
        kept = dict(self._best(saved))
        for position, one in enumerate(_unrepeated(saved)):
            if position > 0 and len(kept) >= self.count:
                break
            word = "one of the latest" if position > 0 else "the latest"
            kept[one.id] = f"{kept[one.id]}; {word}" if one.id in kept else word
        return kept

    def _best(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        if self.metric is None or self.mode is None:
            return {}
        return KeepBest(metric=self.metric, mode=self.mode).keep(saved)
