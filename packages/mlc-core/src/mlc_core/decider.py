"""Asking the strategy: what it may know of a moment, and what it remembered at the last checkpoint."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlc_core.clock import RunningTime
from mlc_core.errors import CheckpointWarning
from mlc_core.options import read_count, read_numbers
from mlc_core.records import Moment
from mlc_core.retention.ranking import rank
from mlc_core.saver import Facts
from mlc_core.strategies.memory import recall, remember

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.background import Background
    from mlc_core.protocols import SaveStrategy
    from mlc_core.records import Monitor, Saved
    from mlc_core.shelf import Shelf

__all__ = ["Decider"]

PATIENCE = 3  # epochs without the monitored metric until that is told


class Decider:
    """Asks *strategy* about moments of *model*, whose checkpoints are on *shelf* and under way in *background*."""

    def __init__(
        self,
        strategy: SaveStrategy,
        *,
        model: str,
        monitor: Monitor | None,
        shelf: Shelf,
        background: Background | None = None,
    ) -> None:
        self._strategy = strategy
        self._model = model
        self._monitor = monitor
        self._shelf = shelf
        self._background = background
        latest = shelf.index.latest
        self._clock = RunningTime(latest.elapsed if latest else 0.0)
        self._before: dict[str, Any] | None = None
        self._lacking: int | None = 0
        """How many epochs had no such metric; None once one had."""
        self.save_seconds: float | None = None
        """How long the last save kept the caller waiting."""

    def due(
        self,
        *,
        epoch: int | None,
        step: int | None,
        epoch_ended: bool,
        metrics: Mapping[str, float] | None,
        exception: str | None = None,
    ) -> str | None:
        """Return the strategy's answer. A save under way counts as saved.

        Raises:
            ConfigurationError: If an epoch, a step or a metric is none.
            MlcError: What a save in the background has met since the last moment.
        """
        numbers = read_numbers(metrics)
        if (
            self._monitor is not None
            and self._monitor.value(numbers) is not None
            and not self._shelf.index.is_current()
        ):
            self._shelf.index.refresh()  # the best may have been set aside since the last commit
        under_way: tuple[Saved, ...] = ()
        if self._background is not None:
            self._background.check()
            under_way = self._background.under_way
        moment = Moment(
            model=self._model,
            epoch=read_count("epoch", epoch),
            step=read_count("step", step),
            epoch_ended=epoch_ended,
            metrics=numbers,
            monitor=self._monitor,
            best=self._best(under_way),
            latest=under_way[-1] if under_way else self._shelf.index.latest,
            elapsed=self._clock.elapsed,
            save_seconds=self.save_seconds,
            saving=bool(under_way),
            exception=exception,
        )
        self._check_metric(moment)
        return self._strategy.should_save(moment)

    def _check_metric(self, moment: Moment) -> None:
        """Say so once if epochs lack the metric that is monitored: it may be called otherwise."""
        if self._monitor is None or not moment.epoch_ended or self._lacking is None:
            return
        if self._monitor.metric in moment.metrics:
            self._lacking = None
            return
        self._lacking += 1
        if self._lacking == PATIENCE:
            names = ", ".join(sorted(moment.metrics)) or "none"
            msg = (
                f"{self._monitor.metric!r} is monitored, and {PATIENCE} epochs had no such metric: none of them can be "
                f"best. The last one had: {names}"
            )
            warnings.warn(msg, CheckpointWarning, stacklevel=5)

    def _best(self, under_way: tuple[Saved, ...]) -> Saved | None:
        best = self._shelf.best
        if self._monitor is None or not under_way:
            return best
        return next(iter(rank([*([best] if best else []), *under_way], self._monitor)), None)

    def decide(
        self,
        reason: str | None,
        *,
        epoch: int | None,
        step: int | None,
        epoch_ended: bool,
        metrics: Mapping[str, float] | None,
    ) -> Facts | None:
        """Return what will be known of this checkpoint, or None if nothing calls for one; a *reason* does.

        Raises:
            ConfigurationError, MlcError: As `due`.
        """
        if self._background is not None:
            self._background.check()
        epoch, step, metrics = read_count("epoch", epoch), read_count("step", step), read_numbers(metrics)
        self._before = remember(self._strategy)
        why = reason or self.due(epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)
        if why is None:
            return None
        return Facts(
            reasons=tuple(why.split("; ")),
            epoch=epoch,
            step=step,
            epoch_ended=epoch_ended,
            metrics=metrics,
            elapsed=self._clock.elapsed,
            strategy=remember(self._strategy),
        )

    def take_back(self) -> None:
        """Let the strategy forget the moment that was decided last: its save failed, and was not made."""
        if self._before is not None:
            recall(self._strategy, self._before)

    def resume(self) -> None:
        """Let the strategy go on from the latest checkpoint."""
        latest = self._shelf.index.latest
        if latest is None:
            return
        try:
            recall(self._strategy, latest.strategy)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            msg = f"the save strategy begins anew, because it did not take its state from {latest.name} ({cause})"
            warnings.warn(msg, CheckpointWarning, stacklevel=4)
