"""Training in a loop that its user owns: the same engine, the same bits, in three lines more."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch

from mlc_trainer import environment
from mlc_trainer.assembly import make_loss_scheduler
from mlc_trainer.catalogs import make_observers
from mlc_trainer.config import DataConfig, PartConfig, TrainingConfig
from mlc_trainer.data import Batches
from mlc_trainer.data.foreign import repeat
from mlc_trainer.data.watchdog import Watchdog
from mlc_trainer.directory import RunDirectory
from mlc_trainer.distributed import require_one_process
from mlc_trainer.engine import Engine, Position
from mlc_trainer.errors import ConfigError, PreemptedError, RunError
from mlc_trainer.measure import device_of, measure
from mlc_trainer.metrics import DiceScore
from mlc_trainer.observers import Journal, RunRecord, without_monitors
from mlc_trainer.precision import Precision
from mlc_trainer.provenance import Provenance
from mlc_trainer.randomness import MEASURE, mix
from mlc_trainer.resume_report import as_facts
from mlc_trainer.saving import restore_owned, warn_of_differences
from mlc_trainer.signals import StoppedError, StopRequest, name_signal
from mlc_trainer.summary import as_floats
from mlc_trainer.training_setup import TrainingSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from mlc_trainer.metrics import Metric
    from mlc_trainer.observers import Observer
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["TrainingManager"]


class TrainingManager(TrainingSetup):
    """The steps, the checkpoints and the record of a training loop that you own.

    Args:
        model_dir: Where checkpoints and the journal lie; made when missing.
        model_name: The directory of the checkpoints in it.
        seed: Of what is drawn within steps and by loaders.
        metric: What makes a metric for each validation; the Dice coefficient of each channel unless said otherwise.
        clip_norm: Gradients are scaled to this norm where they exceed it.
        precision: `fp32`, `bf16` or `fp16`.
        accumulate: Into how many parts each batch is cut on the device.
        ema_decay: Of a moving average of the weights, which validation uses; None keeps none.
        on_nonfinite: Whether a batch whose loss is not finite is passed over ("skip") or ends the training ("stop").
        observers: Who else hears of epochs and checkpoints, beside the journal.
        trackers: Names among `trackers()`: who hears of them in a thread of their own.
        loader_timeout: Seconds that a batch may take until it is told where the loader hangs; None watches nothing.
        on_stuck: Whether to wait on then ("report"), or to raise `LoaderStuckError` ("stop").
    """

    resume_report: ResumeReport | None = None
    """What `resume` came to; None where there was nothing to go on from."""

    def __init__(
        self,
        model_dir: Path | str,
        model_name: str,
        *,
        seed: int = 0,
        metric: Callable[[], Metric | None] = DiceScore,
        clip_norm: float | None = None,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        accumulate: int = 1,
        ema_decay: float | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        observers: Sequence[Observer] = (),
        trackers: Sequence[str] = (),
        loader_timeout: float | None = 300.0,
        on_stuck: Literal["report", "stop"] = "report",
    ) -> None:
        require_one_process("a TrainingManager", "an ExperimentManager shares batches out and saves once")
        self.model_dir = Path(model_dir)
        self.model_name = model_name
        self._seed = seed
        self._metric = metric
        self._precision = precision
        how = {"precision": precision, "accumulate": accumulate, "ema_decay": ema_decay}
        self._engine_options: dict[str, Any] = {"clip_norm": clip_norm, **how, "on_nonfinite": on_nonfinite}
        TrainingConfig(num_epochs=1, seed=seed, **self._engine_options)  # refuses what cannot be followed
        self._options = {"seed": seed, **self._engine_options}
        if on_nonfinite not in {"stop", "skip"}:
            msg = f"on_nonfinite={on_nonfinite!r} is for a loop that is ours; take 'skip' or 'stop'"
            raise ConfigError(msg)
        following = make_observers((), [PartConfig(name=one) for one in trackers])
        self._observers = (Journal(self.journal), *without_monitors(observers), *following)
        self._engine: Engine | None = None
        self._given = 0  # batches of this epoch that were given out, trained on or not
        self._saved_at: Position | None = None
        self._resumed = False
        self.last_values: Mapping[str, float | Tensor] = {}  # of the last step, after a restart too
        self._scheduler: Any = None
        self._stop = StopRequest()
        DataConfig(factory="", timeout=loader_timeout, on_stuck=on_stuck)
        self._dog = Watchdog(timeout=loader_timeout, on_stuck=on_stuck)
        self._last: dict[str, float] = {}

    @property
    def position(self) -> Position:
        """How far training has come."""
        return Position() if self._engine is None else self._engine.position

    # ------------------------------------------------------------------ the loop

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any = None) -> Position:
        """Go on from the latest checkpoint if there is one, and return where that is.

        Raises:
            RunError: If training has begun.
            CorruptCheckpointError, MismatchError: If it was changed, or does not fit.
        """
        self._refuse_late("resuming")
        self._scheduler = scheduler
        engine = self._bind(model, optimizer)
        latest = self.checkpoint_manager.get_latest_checkpoint_path()
        if latest is not None:
            self.resume_report = self._restore(latest)
            warn_of_differences(self.resume_report, depth=2)
        self._tell_start()
        return engine.position

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """Yield the epochs up to *num_epochs*, counted from 0, from the one that is under way.

        While they last, SIGTERM and SIGUSR1 let no further batch be given out: where training stands is saved instead,
        and `PreemptedError` raised.
        """
        with self._stop.listening():
            while (epoch := self.position.epoch) < num_epochs:
                yield epoch
                if self.position.epoch == epoch:
                    msg = f"epoch {epoch} did not end: call end_epoch(epoch, …) or save_checkpoint(…) once it did"
                    raise RunError(msg)
        self._tell_end(None)

    def loader(
        self, dataset: Any, *, batch_size: int, shuffle: bool = True, drop_last: bool = False, workers: int = 0
    ) -> Batches:
        """Return the batches of a map-style *dataset*, resumable at any batch with any number of workers."""
        return Batches(
            dataset,
            seed=self._seed,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            workers=workers,
            pin_memory=torch.cuda.is_available(),
        )

    def batches(self, loader: Batches | Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of the epoch that is under way, from where training stands.

        Args:
            loader: What `loader` returned, or any other, whose order and draws are made to repeat: after a restart,
                batches that were given out before are loaded once more and let go of.

        Raises:
            PreemptedError: If a signal asked the process to end; where training stands is saved.
        """
        epoch = self.position.epoch
        try:
            for batch in self._stop.watch(self._epoch_of(loader, self._seed, epoch, first=self._given)):
                self._given += 1
                yield batch
        except StoppedError:
            self._give_way()

    def train_step(
        self,
        model: nn.Module,
        batch: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        device: torch.device | str | None = None,
    ) -> Mapping[str, float | Tensor]:
        """Train *model* on *batch*, a pair of input and target, and return the loss and its components.

        The model is trained in the mode it is in: what was frozen by `eval()`, a part or all of it, stays so until
        `train()` is called. The values are tensors without dimensions, still on the device: `float()` waits for it.
        For a batch that was passed over there are none.

        Raises:
            RunError: If model or optimizer are others than before.
            ConfigError: If *batch* is no pair, or the model is not on *device*.
            NonFiniteLossError: As `Engine.train_step`.
        """
        engine = self._engine
        if engine is None or engine.model is not model or engine.optimizer is not optimizer:
            engine = self._begin(model, optimizer)
        if device is not None and torch.device(device).type != engine.device.type:
            msg = f"the model is on {engine.device} and the batch is to go to {device}; say model.to({str(device)!r})"
            raise ConfigError(msg)
        self.last_values = engine.train_step(batch)
        for observer in self._observers:
            observer.step_ended(engine.position)
        return self.last_values

    def validation_step(
        self, model: nn.Module, loader: Iterable[Sequence[Tensor]] | Batches, device: torch.device | str | None = None
    ) -> dict[str, float]:
        """Return the mean loss, its components and the metrics over all batches of *loader*, each named `val_…`.

        Nothing that training depends on changes. An average of the weights is measured where one is kept.
        """
        engine = self._engine
        place = device_of(model) if device is None else torch.device(device)
        try:
            return measure(
                engine.measured if engine is not None and engine.model is model else model,
                self._stop.watch(self._epoch_of(loader, mix(MEASURE, self._seed), 0)),
                loss=self.loss_function,
                metric=self._metric(),
                device=place,
                seed=self._seed,
                precision=Precision(self._precision, place),
            )
        except StoppedError:
            self._give_way()

    def save_checkpoint(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        epoch: int | None = None,
        metrics: Mapping[str, float | Tensor] | None = None,
        *,
        epoch_ended: bool = True,
    ) -> Path | str | None:
        """Save, if the strategy says so, and return where; everything that a restart needs is in it.

        Unless *epoch_ended* is false, this ends the epoch as `end_epoch` does, before it saves.

        Raises:
            NonFiniteLossError: If a loss of this epoch was NaN or infinite, or a weight is.
            StateError, StorageError, …: As `CheckpointManager.save_checkpoint`.
        """
        engine = self._engine
        if engine is None or engine.model is not model or engine.optimizer is not optimizer:
            engine = self._begin(model, optimizer)
        self._scheduler = scheduler
        engine.check_finite()
        numbers = as_floats(metrics)
        number = engine.position.epoch if epoch is None else epoch
        if epoch_ended:
            numbers = self._close(numbers)
        return self._save(number, numbers, epoch_ended=epoch_ended)

    def end_epoch(
        self,
        epoch: int,
        train_metrics: Mapping[str, float | Tensor] | None = None,
        val_metrics: Mapping[str, float | Tensor] | None = None,
    ) -> dict[str, Any]:
        """End the epoch, unless a checkpoint did, write it down, and return what it came to, as plain data."""
        metrics = {**as_floats(train_metrics), **as_floats(val_metrics)}
        self._close(metrics)
        engine = self._engine
        if engine is None:
            msg = f"epoch {epoch} has had no step; call train_step first"
            raise RunError(msg)
        found = {**self._last, **metrics}
        weights = {} if engine.loss_scheduler is None else dict(engine.loss_scheduler.weights)
        return {"epoch": epoch, "step": engine.position.step, "metrics": found, "loss_weights": weights}

    # ------------------------------------------------------------------ the inside

    def _begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
        if self._engine is not None:
            msg = "this is another model or another optimizer than before; make a TrainingManager for each"
            raise RunError(msg)
        engine = self._bind(model, optimizer)
        self._tell_start()
        return engine

    def _bind(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
        for name, way in (("loss_function", "setup_loss_function"), ("checkpoint_manager", "setup_checkpointing")):
            if not hasattr(self, name):
                msg = f"there is no {name} yet; call {way}(…), or make the manager by create_training_manager"
                raise RunError(msg)
        device = device_of(model)
        self._provenance = Provenance((type(model).__module__.partition(".")[0],))
        self.loss_function.to(device)
        schedule = self._loss_schedule
        self._engine = Engine(
            model=model,
            loss=self.loss_function,
            optimizer=optimizer,
            device=device,
            seed=self._seed,
            loss_scheduler=None if schedule is None else make_loss_scheduler(self.loss_function, schedule, optimizer),
            keep_modes=False,  # in a loop of one's own they are one's own
            **self._engine_options,
        )
        return self._engine

    def _state(self) -> dict[str, Any]:
        return {"given": self._given, "values": as_floats(self.last_values), "options": self._options}

    def _epoch_of(self, loader: Batches | Iterable[Any], seed: int, epoch: int, *, first: int = 0) -> Iterator[Any]:
        name = "training" if seed == self._seed else "validation"
        watch = partial(self._dog.watch, loader=name, epoch=self.position.epoch)
        if isinstance(loader, Batches):
            return watch(loader.epoch(epoch, first=first), first=first)
        return repeat(loader, seed=seed, epoch=epoch, first=first, resumed=self._resumed, watch=watch)

    def _restore(self, latest: Path | str) -> ResumeReport:
        """Load *latest* into what was bound, and return what came of it."""
        engine = self._engine
        assert engine is not None
        now = {**self._options, **self._environment(engine)}
        own, report = restore_owned(self.checkpoint_manager, latest, engine, self._scheduler, now=now)
        self._given, self._saved_at, self._resumed = own["given"], engine.position, True
        self.last_values = own["values"]
        return report

    def _environment(self, engine: Engine) -> dict[str, Any]:
        return {**environment.fingerprint(engine.device, engine.model), **self._provenance.facts}

    def _tell_start(self) -> None:
        self.model_dir.mkdir(parents=True, exist_ok=True)
        assert self._engine is not None
        RunDirectory(self.model_dir).write_environment(self._environment(self._engine))
        name, facts = self.model_name, as_facts(self.resume_report)
        record = RunRecord(id=name, directory=self.model_dir, model_name=name, **facts)
        for observer in self._observers:
            observer.run_started(record, self.position)

    def _close(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Let what goes on once an epoch do so, unless it did, and return *metrics* with the means of the epoch."""
        engine = self._engine
        if engine is not None and engine.position.batch:
            self._last = {**engine.means(), "lr": engine.learning_rate}
            self._last = {**metrics, **self._last}
            engine.end_epoch(self._last)
            for observer in self._observers:
                observer.epoch_ended(engine.position, dict(self._last))
            self._given = 0
        return {**self._last, **metrics}

    def _save(
        self, epoch: int, metrics: Mapping[str, float], *, epoch_ended: bool, reason: str | None = None
    ) -> Path | str | None:
        engine = self._engine
        assert engine is not None
        location: Path | str | None = self.checkpoint_manager.save_checkpoint(
            engine.model,
            engine.optimizer,
            self._scheduler,
            epoch,
            metrics,
            step=engine.position.step,
            epoch_ended=epoch_ended,
            reason=reason,
            items={**engine.parts, "environment": self._environment(engine), "manager": self._state()},
        )
        if location is not None:
            self._saved_at = engine.position
            for observer in self._observers:
                observer.checkpoint_saved(engine.position, str(location))
        return location

    def _give_way(self) -> NoReturn:
        name = name_signal(self._stop.signal)
        engine, at = self._engine, self.position
        if engine is not None and at.step and at != self._saved_at:
            engine.check_finite()
            ended = not at.batch
            self._save(at.epoch - ended, self._last if ended else {}, epoch_ended=ended, reason=name)
        saved = f"at step {at.step}, which is saved" if at.step else "before its first step"
        error = PreemptedError(f"{name} came and training stopped {saved}; start it again", signal=self._stop.signal)
        self._tell_end(error)
        raise error

    def _tell_end(self, error: BaseException | None) -> None:
        for observer in self._observers:
            observer.run_ended(self.position, error)
