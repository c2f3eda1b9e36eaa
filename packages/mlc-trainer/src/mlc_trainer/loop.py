"""The loop that is ours: epochs of steps, measured, watched and saved, until it is time to end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlc_hooks.hints import known_names, nearest
from mlc_trainer.data.watchdog import Watchdog
from mlc_trainer.errors import ConfigError, NonFiniteLossError, NonFiniteStepError, PreemptedError
from mlc_trainer.observers.protocol import Monitor
from mlc_trainer.saving import LATEST_STATE
from mlc_trainer.signals import AGAIN, StoppedError, name_signal
from mlc_trainer.under_way import look, settle, take_durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.data import Batches
    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.observers import Observer
    from mlc_trainer.saving import RunCheckpoints
    from mlc_trainer.signals import StopRequest
    from mlc_trainer.stopping import EarlyStopping

__all__ = ["Loop"]

log = logging.getLogger("mlc_trainer")

ROLLBACKS = 10
"""Batches that may be given up; more of them mean that it is not the batches."""


class Loop:
    """Trains *engine* on *training*, and saves in *checkpoints*.

    Args:
        config: What the run is made of.
        engine: What takes the steps.
        training: What is trained on.
        validation: What is measured on after every epoch.
        measure: Returns the metrics of the model over batches.
        checkpoints: Where to save.
        stopping: When it is enough, or None.
        stop: Whether a signal has come; somebody listens.
        observers: Who watches.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        engine: Engine,
        *,
        training: Batches,
        validation: Batches,
        measure: Callable[[Iterable[Sequence[Tensor]]], dict[str, float]],
        checkpoints: RunCheckpoints,
        stopping: EarlyStopping | None,
        stop: StopRequest,
        observers: Sequence[Observer],
    ) -> None:
        self._config = config
        self._engine = engine
        self._training = training
        self._validation = validation
        self._measure = measure
        self._checkpoints = checkpoints
        self._stopping = stopping
        self._observers = observers
        self._monitors = [one for one in observers if isinstance(one, Monitor)]
        self._stop = stop
        self._dog = Watchdog(timeout=config.data.timeout, on_stuck=config.data.on_stuck)

    def train(self, total: int) -> dict[str, float]:
        """Train until *total* epochs are complete, or it is enough, and return the metrics of the last one.

        Raises:
            PreemptedError: If a signal asked the process to end; where training stands is saved then.
            LoaderStuckError: If a batch does not come in time, and that is to end the run.
            NonFiniteLossError: If the loss is NaN or infinite.
            DiskFullError, StorageError: If a checkpoint cannot be written, in the background too.
        """
        try:
            while self._engine.position.epoch < total and not self._has_had_enough():
                self._train_on()
            self._settle()
        except BaseException as error:
            self._save_before_the_end(error)
            raise
        finally:
            self._training.close()
            self._validation.close()
        if self._checkpoints.at is not None and not self._engine.position.batch:
            self._checkpoints.manager.set_pointer("final", self._checkpoints.at)
        return self._checkpoints.metrics

    def _train_on(self) -> None:
        try:
            self._train_epoch()
            self._end_epoch()
        except NonFiniteStepError as error:
            self._roll_back(error)
        except StoppedError:
            self._give_way()

    def _train_epoch(self) -> None:
        engine, batches, log_every = self._engine, self._training, self._config.training.log_every
        checkpoints = self._checkpoints
        step_ended = [observer.step_ended for observer in self._observers]
        step_began = [monitor.step_began for monitor in self._monitors]
        asks = not getattr(checkpoints.manager.strategy, "epoch_ends_only", False)
        epoch, first = engine.position.epoch, engine.position.batch
        coming = self._dog.watch(batches.epoch(epoch, first=first), loader="training", epoch=epoch, first=first)
        for batch in self._stop.watch(self._awaiting(coming) if self._monitors else coming):
            length = batches.length_of(engine.position.batch)
            for begin in step_began:
                begin(engine.position, length)
            values = engine.train_step(batch, length=length)
            for tell in step_ended:
                tell(engine.position)
            if values and engine.position.step % log_every == 0:
                self._log_step(values)
            if checkpoints.under_way is not None:
                look(checkpoints)
                self._tell_durable()
            if asks and engine.position.batch < len(batches):  # the end of the epoch is saved when it was measured
                self._save_if_due()

    def _awaiting(self, coming: Iterator[Sequence[Tensor]]) -> Iterator[Sequence[Tensor]]:
        """Yield what is *coming*, and tell whenever more of it is asked for."""
        tells = [monitor.batch_awaited for monitor in self._monitors]
        while True:
            for tell in tells:
                tell(self._engine.position)
            batch = next(coming, None)
            if batch is None:
                return
            yield batch

    def _log_step(self, values: Mapping[str, Tensor]) -> None:
        numbers = {**{name: float(value) for name, value in values.items()}, "lr": self._engine.learning_rate}
        self._engine.check_loss()  # the device was waited for
        for monitor in self._monitors:
            numbers = {**monitor.numbers(self._engine, numbers), **numbers}
        for observer in self._observers:
            observer.step_logged(self._engine.position, dict(numbers))

    def _save_if_due(self) -> None:
        position = self._engine.position
        reason = self._checkpoints.manager.due(epoch=position.epoch + 1, step=position.step, epoch_ended=False)
        if reason is not None:
            self._engine.check_finite()
            self._save(reason)

    def _end_epoch(self) -> None:
        rate, training = self._engine.learning_rate, self._engine.means()
        epoch = self._engine.position.epoch
        self._engine.average_epoch(self._stop.watch(self._once_more()))
        coming = self._dog.watch(self._validation.epoch(0), loader="validation", epoch=epoch)
        measured = self._measure(self._stop.watch(coming))
        metrics = self._engine.world.first(lambda: {**measured, **training, "lr": rate})
        self._engine.end_epoch(metrics)
        if self._stopping is not None:
            self._stopping.epoch_ended(metrics)
        for observer in self._observers:
            observer.epoch_ended(self._engine.position, dict(metrics))
        position = self._engine.position
        reason = self._checkpoints.manager.due(epoch=position.epoch, step=position.step, metrics=metrics)
        self._save(reason or LATEST_STATE, metrics=metrics)
        monitored = self._config.checkpoints.monitor_metric
        if monitored not in metrics:  # nothing would ever be best; the epoch is saved, and the run can be resumed
            hint = f"{nearest(monitored, metrics)} {known_names('Measured', metrics)}"
            msg = f"checkpoints.monitor_metric = {monitored!r} was not measured.{hint}"
            raise ConfigError(msg)

    def _once_more(self) -> Iterator[Sequence[Tensor]]:
        """Yield the batches of the epoch that is at its end, loaded only if anybody asks for them."""
        yield from self._training.epoch(self._engine.position.epoch)

    def _save(self, reason: str, *, metrics: Mapping[str, float] | None = None) -> None:
        location = self._checkpoints.save(reason, metrics=metrics, later=self._config.checkpoints.asynchronous)
        self._tell_durable()
        if location is not None:
            self._tell_saved(self._engine.position, location)

    def _tell_saved(self, position: Position, location: str) -> None:
        for observer in self._observers:
            observer.checkpoint_saved(position, location)

    def _tell_durable(self) -> None:
        """Tell of what was saved in the background meanwhile."""
        for position, location in take_durable(self._checkpoints):
            self._tell_saved(position, location)

    def _settle(self) -> None:
        """Wait for what is saved in the background, and tell of it."""
        settle(self._checkpoints)
        self._tell_durable()

    # ------------------------------------------------------------------ ends before the end

    def _has_had_enough(self) -> bool:
        reason = None if self._stopping is None else self._stopping.reason
        if reason is not None and self._engine.world.is_first:
            log.info("training ended early: %s", reason)
        return reason is not None

    def _roll_back(self, error: NonFiniteStepError) -> None:
        """Go back to the last checkpoint, and come by the batch without a step when it comes again."""
        self._settle()
        engine, position = self._engine, self._engine.position
        avoided = {*engine.avoided, (position.epoch, position.batch)}
        if len(avoided) > ROLLBACKS or self._checkpoints.source is None:
            why = "there is no checkpoint yet" if len(avoided) <= ROLLBACKS else f"{ROLLBACKS} batches were given up"
            msg = f"{error}, and {why}. Lower the learning rate, set training.clip_norm, or look at the data"
            raise NonFiniteLossError(msg) from error
        if engine.world.is_first:
            log.warning("%s; going back to the last checkpoint and passing the batch over", error)
        engine.torn = True
        self._checkpoints.go_back()
        engine.avoid(avoided)
        for observer in self._observers:
            observer.rolled_back(engine.position)

    def _give_way(self) -> None:
        """Save where training stands, because a signal asked the process to end.

        Raises:
            PreemptedError: Always.
        """
        name = name_signal(self._stop.signal)
        self._engine.check_finite()
        self._checkpoints.save_here(name)
        self._tell_durable()
        step = self._engine.position.step
        saved = f"at step {step}, which is saved; resume the run" if step else f"before its first step; {AGAIN}"
        msg = f"{name} came and training stopped {saved}"
        raise PreemptedError(msg, signal=self._stop.signal)

    def _save_before_the_end(self, error: BaseException) -> None:
        try:
            self._settle()
        except Exception as failure:
            if failure is not error:
                log.warning("what was saved in the background when training ended is not durable: %s", failure)
        if not self._config.training.save_on_error or self._engine.torn or isinstance(error, PreemptedError):
            return
        try:
            self._engine.check_finite()
            self._checkpoints.save_here(type(error).__name__)
        except Exception as failure:  # the first error is the one to be told
            log.warning("where training stood could not be saved: %s", failure)
