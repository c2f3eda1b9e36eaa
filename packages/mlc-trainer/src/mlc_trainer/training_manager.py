"""Training in a loop that its user owns: the same engine, the same bits, in three lines more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch

from mlc_trainer import environment
from mlc_trainer.audience import Audience
from mlc_trainer.catalogs import make_observers
from mlc_trainer.config import DataConfig, PartConfig, TrainingConfig
from mlc_trainer.data.watchdog import Watchdog
from mlc_trainer.directory import RunDirectory
from mlc_trainer.distributed import join_world
from mlc_trainer.distributed.sharing import check_piece
from mlc_trainer.engine import Position
from mlc_trainer.errors import ConfigError, PreemptedError, RunError
from mlc_trainer.measure import device_of, measure
from mlc_trainer.metrics import DiceScore
from mlc_trainer.observers import Journal, RunRecord, read_journal, without_monitors
from mlc_trainer.owned_checkpoints import OwnedCheckpoints
from mlc_trainer.owned_data import OwnedData, check_epoch
from mlc_trainer.owned_engine import make_owned_engine
from mlc_trainer.precision import Precision
from mlc_trainer.provenance import Provenance
from mlc_trainer.resume_report import as_facts
from mlc_trainer.saving import warn_of_differences
from mlc_trainer.signals import StoppedError, StopRequest, name_signal
from mlc_trainer.summary import as_floats
from mlc_trainer.training_setup import TrainingSetup
from mlc_trainer.under_way import look, settle, take_durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from mlc_trainer.data import Batches
    from mlc_trainer.engine import Engine
    from mlc_trainer.metrics import Metric
    from mlc_trainer.observers import Observer
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["TrainingManager"]


class TrainingManager(TrainingSetup):
    """The steps, the checkpoints and the record of a training loop that you own.

    Where `torchrun` started several processes, each runs the loop and calls every method: batches are shared out, the
    model is copied to all (DDP) unless `shard` was called, one of them writes and tells, and what they save and
    measure is of all. Make the manager before the model goes to a GPU: each process takes its own.

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
        asynchronous: Whether training goes on while a checkpoint is written; takes memory for one state more.
        find_unused_parameters: Whether processes look, at every step, for parameters that took no part.

    Raises:
        ConfigError: If an option cannot be followed, or not by several processes, or those cannot be reached.
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
        asynchronous: bool = False,
        find_unused_parameters: bool = False,
    ) -> None:
        self.model_dir = Path(model_dir)
        self.model_name = model_name
        self._metric = metric
        how = {"precision": precision, "accumulate": accumulate, "ema_decay": ema_decay}
        self._options: dict[str, Any] = {"seed": seed, "clip_norm": clip_norm, **how, "on_nonfinite": on_nonfinite}
        self._settings = TrainingConfig(  # refuses what cannot be followed
            num_epochs=1, find_unused_parameters=find_unused_parameters, **self._options
        )
        if on_nonfinite not in {"stop", "skip"}:
            msg = f"on_nonfinite={on_nonfinite!r} is for a loop that is ours; take 'skip' or 'stop'"
            raise ConfigError(msg)
        self._world = join_world()
        self._later = asynchronous
        if asynchronous and self._world.size > 1:
            msg = f"asynchronous does not go with the {self._world.size} processes that run, which save together"
            raise ConfigError(msg)
        following = make_observers((), [PartConfig(name=one) for one in trackers])
        everyone = (Journal(self.journal), *without_monitors(observers), *following)
        self._audience = Audience(everyone if self._world.is_first else (), speaks=self._world.is_first)
        self._engine: Engine | None = None
        self._given = 0  # batches of this epoch that were given out, trained on or not
        self._length: int | None = None  # of the batch that was given out last, all processes together
        self.last_values: Mapping[str, float | Tensor] = {}  # of the last step, after a restart too
        self._stop = StopRequest(agree=self._world.highest, speaks=self._world.is_first)
        DataConfig(factory="", timeout=loader_timeout, on_stuck=on_stuck)
        dog = Watchdog(timeout=loader_timeout, on_stuck=on_stuck)
        self._data = OwnedData(seed=seed, parts=accumulate, world=self._world, dog=dog)
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
        engine = self._bind(model, optimizer)
        self._saving.scheduler = scheduler
        latest = self._saving.find_latest()
        if latest is not None:
            own, self.resume_report = self._saving.restore(latest, options=self._options)
            self._given, self.last_values, self._data.resumed = own["given"], own["values"], True
            if self._world.is_first:
                warn_of_differences(self.resume_report, depth=2)
        self._tell_start()
        return engine.position

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """Yield the epochs up to *num_epochs*, counted from 0, from the one that is under way.

        While they last, Ctrl-C, SIGTERM and SIGUSR1 let no further batch be given out, and no further epoch begin:
        where training stands is saved instead, and `PreemptedError` raised.

        Raises:
            RunError: If an epoch did not end, or its end was saved before the scheduler was stepped.
        """
        with self._stop.listening():
            while (epoch := self.position.epoch) < num_epochs:
                yield epoch
                check_epoch(self.position, epoch)
                self._saving.refuse_stale()
                if self.position.epoch < num_epochs and self._stop.is_asked():
                    self._give_way()  # of batches that came from elsewhere
        self.wait()
        self._audience.run_ended(self.position, None)

    def batches(self, loader: Batches | Iterable[Any], *, own: bool = False) -> Iterator[Any]:
        """Yield the batches of the epoch that is under way, from where training stands.

        Several processes are given a piece of each, and train on the whole of it together.

        Args:
            loader: What `loader` returned, or any other, whose order and draws are made to repeat: after a restart,
                batches that were given out before are loaded once more and let go of. Of one that is yours, every
                process loads the same batches, all of each, unless they are its *own*.
            own: Whether the loader gives each of several processes samples of its own, as many, as one with a
                `DistributedSampler` does: a step then sees so many batches.

        Raises:
            PreemptedError: If a signal asked the process to end; where training stands is saved.
            ConfigError: If processes load the same and say that it is their own, or load different batches and do
                not say so.
        """
        coming = self._data.training(loader, self.position.epoch, first=self._given, own=own)
        try:
            for batch, length in self._stop.watch(coming):
                self._given += 1
                self._length = length
                yield batch
        except StoppedError:
            self._give_way()
        finally:
            self._length = None

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
        if self._world.size > 1:
            check_piece(batch, self._length, self._world, parts=self._settings.accumulate)
        self.last_values = engine.train_step(batch, length=self._length)
        self._audience.step_ended(engine.position)
        if self._saving.under_way is not None:
            look(self._saving)
            self._tell_durable()
        return self.last_values

    def validation_step(
        self, model: nn.Module, loader: Iterable[Sequence[Tensor]] | Batches, device: torch.device | str | None = None
    ) -> dict[str, float]:
        """Return the mean loss, its components and the metrics over all batches of *loader*, each named `val_…`.

        Nothing that training depends on changes. An average of the weights is measured where one is kept. Several
        processes share the batches out, which all of them load unless `loader` made them; what is returned is rank 0's.
        """
        engine = self._engine
        place = device_of(model) if device is None else torch.device(device)
        batches, length_of = self._data.validation(loader, self.position.epoch)
        try:
            found = measure(
                engine.measured if engine is not None and engine.model is model else model,
                self._stop.watch(batches),
                loss=self.loss_function,
                metric=self._metric(),
                device=place,
                seed=self._settings.seed,
                precision=Precision(self._settings.precision, place),
                world=self._world,
                length_of=length_of,
            )
        except StoppedError:
            self._give_way()
        return self._world.first(lambda: found)

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
        """Save the end of the epoch, and return where; everything that a restart needs is in it.

        It ends the epoch as `end_epoch` does, before it saves. Unless *epoch_ended*, that is for the strategy to say,
        and None is returned if it says no. What is saved in the background is nowhere yet: None is returned, and
        observers hear of it once it is durable. A scheduler of the learning rate that moves once an epoch is stepped
        before.

        Raises:
            NonFiniteLossError: If a loss of this epoch was NaN or infinite, or a weight is.
            StateError, StorageError, …: As `CheckpointManager.save_checkpoint`, for an earlier save too.
        """
        engine = self._engine
        if engine is None or engine.model is not model or engine.optimizer is not optimizer:
            engine = self._begin(model, optimizer)
        self._saving.scheduler = scheduler
        engine.check_finite()
        numbers = self._world.first(lambda: as_floats(metrics))
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
        metrics = self._world.first(lambda: {**as_floats(train_metrics), **as_floats(val_metrics)})
        self._close(metrics)
        engine = self._engine
        if engine is None:
            msg = f"epoch {epoch} has had no step; call train_step first"
            raise RunError(msg)
        found = {**self._last, **metrics}
        weights = {} if engine.loss_scheduler is None else dict(engine.loss_scheduler.weights)
        return {"epoch": epoch, "step": engine.position.step, "metrics": found, "loss_weights": weights}

    def wait(self) -> None:
        """Wait until what is saved in the background is durable; the end of `epochs` does.

        Raises:
            DiskFullError, StorageError, …: If it could not be saved.
        """
        if self._engine is not None:
            settle(self._saving)
            self._tell_durable()

    # ------------------------------------------------------------------ the inside

    def _begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
        if self._engine is not None:
            msg = "this is another model or another optimizer than before; make a TrainingManager for each"
            raise RunError(msg)
        engine = self._bind(model, optimizer)
        self._saving.refuse_used(read_journal(self.journal))
        self._tell_start()
        return engine

    def _bind(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
        for name, way in (("loss_function", "setup_loss_function"), ("checkpoint_manager", "setup_checkpointing")):
            if not hasattr(self, name):
                msg = f"there is no {name} yet; call {way}(…), or make the manager by create_training_manager"
                raise RunError(msg)
        self._provenance = Provenance((type(model).__module__.partition(".")[0],))
        how: Any = {"schedule": self._loss_schedule, "settings": self._settings, "twin": self._twin}
        self._engine = make_owned_engine(model, optimizer, loss=self.loss_function, world=self._world, **how)
        self._saving = OwnedCheckpoints(self.checkpoint_manager, self._engine, self._environment, later=self._later)
        return self._engine

    def _state(self) -> dict[str, Any]:
        return {"given": self._given, "values": as_floats(self.last_values), "options": self._options}

    def _environment(self) -> dict[str, Any]:
        engine = self._saving.engine
        found = environment.fingerprint(engine.device, engine.model)
        return {**found, "processes": self._world.size, **self._provenance.facts}

    def _tell_start(self) -> None:
        self._world.first(lambda: self.model_dir.mkdir(parents=True, exist_ok=True))
        self._world.first(lambda: RunDirectory(self.model_dir).write_environment(self._environment()))
        name, facts = self.model_name, as_facts(self.resume_report)
        record = RunRecord(id=name, directory=self.model_dir, model_name=name, **facts)
        self._audience.run_started(record, self.position)

    def _close(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Let what goes on once an epoch do so, unless it did, and return *metrics* with the means of the epoch."""
        engine = self._engine
        if engine is not None and engine.position.batch:
            found = {**metrics, **engine.means(), "lr": engine.learning_rate}
            self._last = self._world.first(lambda: found)
            engine.end_epoch(self._last)
            self._audience.epoch_ended(engine.position, self._last)
            self._given = 0
        return {**self._last, **metrics}

    def _save(
        self, epoch: int, metrics: Mapping[str, float], *, epoch_ended: bool, reason: str | None = None
    ) -> Path | str | None:
        at, state = self.position, self._state()
        location = self._saving.save(epoch, metrics, epoch_ended=epoch_ended, state=state, reason=reason)
        self._tell_durable()
        if location is not None:
            self._audience.checkpoints_saved([(at, str(location))])
        return location

    def _tell_durable(self) -> None:
        self._audience.checkpoints_saved(take_durable(self._saving))

    def _give_way(self) -> NoReturn:
        name = name_signal(self._stop.signal)
        engine, at = self._engine, self.position
        self.wait()
        if engine is not None and at.step and at != self._saving.saved:
            engine.check_finite()
            ended = not at.batch
            self._save(at.epoch - ended, self._last if ended else {}, epoch_ended=ended, reason=name)
        saved = f"at step {at.step}, which is saved" if at.step else "before its first step"
        error = PreemptedError(f"{name} came and training stopped {saved}; start it again", signal=self._stop.signal)
        self._audience.run_ended(self.position, error)
        raise error
