"""An experiment: the loop that is ours, over the engine."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch

from mlc_hooks import open_door
from mlc_trainer import assembly, environment, events
from mlc_trainer.branching import go_on, let_go, take_off_final
from mlc_trainer.catalogs import make_observers
from mlc_trainer.config_files import as_data
from mlc_trainer.directory import RunDirectory
from mlc_trainer.distributed import join_world
from mlc_trainer.engine import Position
from mlc_trainer.errors import RunError
from mlc_trainer.loop import Loop
from mlc_trainer.measure import measure
from mlc_trainer.models import ModelManager
from mlc_trainer.observers import Journal, RunRecord, tell_end
from mlc_trainer.precision import Precision
from mlc_trainer.rates import check_horizon
from mlc_trainer.resume_report import as_facts
from mlc_trainer.saving import RunCheckpoints, warn_of_differences
from mlc_trainer.signals import AGAIN, WENT_ON, StopRequest
from mlc_trainer.stopping import EarlyStopping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from mlc_core import CheckpointManager
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.data import Batches
    from mlc_trainer.engine import Engine
    from mlc_trainer.observers import Observer
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["ExperimentManager"]

log = logging.getLogger("mlc_trainer")


class ExperimentManager:
    """A run in a directory of its own: trained, killed, resumed to the bit, evaluated.

    After every epoch the latest state is on disk. Whatever kills the process, `resume_training` goes on from the last
    checkpoint, and the final weights are those of a run that nothing killed.

    Args:
        config: What the run is made of.
        run_dir: Where it lies; made when missing. Default: the name of the model, in `runs`.
        observers: Who else watches, beside the journal.
    """

    engine: Engine
    checkpoints: CheckpointManager | DistributedCheckpointManager
    resume_report: ResumeReport | None = None
    """What the last resume came to; None where nothing was resumed yet."""

    def __init__(
        self, config: ExperimentConfig, run_dir: Path | str | None = None, *, observers: Sequence[Observer] = ()
    ) -> None:
        self.config = config
        self.directory = RunDirectory(Path("runs") / config.model.name if run_dir is None else Path(run_dir))
        self._observers: tuple[Observer, ...] = (Journal(self.directory.journal), *observers)
        self._stop = StopRequest()
        self._ready = False

    # ------------------------------------------------------------------ from a directory

    @classmethod
    def from_run(cls, run_dir: Path | str, *, observers: Sequence[Observer] = ()) -> ExperimentManager:
        """Return the experiment in *run_dir*, set up, its weights not loaded yet.

        Raises:
            RunError: If there is none.
        """
        return cls(RunDirectory(Path(run_dir)).read_config(), run_dir, observers=observers).setup()

    @classmethod
    def load_best_model(cls, run_dir: Path | str) -> ExperimentManager:
        """Return the experiment in *run_dir* with its best checkpoint loaded."""
        experiment = cls.from_run(run_dir)
        experiment.restore("best")
        return experiment

    @classmethod
    def load_latest_model(cls, run_dir: Path | str) -> ExperimentManager:
        """Return the experiment in *run_dir* with its latest checkpoint loaded."""
        experiment = cls.from_run(run_dir)
        experiment.restore("latest")
        return experiment

    # ------------------------------------------------------------------ life

    def setup(self) -> ExperimentManager:
        """Build everything; nothing is trained or written yet.

        Raises:
            ConfigError, FactoryError, UnknownNameError: If the configuration cannot be followed.
        """
        if not self._ready:
            open_door("mlc_trainer")
            config = self.config
            self._world = world = join_world(config.training.device)
            device = assembly.pick_device(config.training.device)
            environment.prepare(device, threads=config.training.threads, deterministic=config.training.deterministic)
            if config.training.matmul_precision is not None:
                torch.set_float32_matmul_precision(config.training.matmul_precision)
            data, seed = assembly.make_data(config.data), config.training.seed
            here: Any = {"seed": seed, "device": device, "world": world}
            accumulate = config.training.accumulate
            self._training = assembly.make_training_batches(config.data, data, accumulate=accumulate, **here)
            self._validation = assembly.make_validation_batches(config.data, data, **here)
            self.engine = assembly.make_engine(config, device=device, steps_per_epoch=len(self._training), world=world)
            assembly.make_metric(config.metrics)  # a wrong option is refused now, not after the first epoch
            self._run_id = world.first(self.directory.read_id)
            self.checkpoints = assembly.make_checkpoints(
                config.checkpoints,
                self.directory.checkpoints,
                model_name=config.model.name,
                run=self._run_id,
                world=world,
            )
            following = tuple(make_observers(config.callbacks, config.trackers))
            self._observers = (*self._observers, *following) if world.is_first else ()
            self._stop.agree, self._stop.speaks = world.highest, world.is_first
            self._stopping = None if config.early_stopping is None else EarlyStopping(config.early_stopping)
            self._saving = RunCheckpoints(
                self.checkpoints,
                self.engine,
                config,
                samples=self._training.samples,
                more_parts={} if self._stopping is None else {"early_stopping": self._stopping},
            )
            self._ready = True
        return self

    def run(self, num_epochs: int | None = None, resume_from_checkpoint: Path | str | None = None) -> dict[str, float]:
        """Train until *num_epochs* are complete, and return the metrics of the last one.

        Args:
            num_epochs: In total. Default: what the configuration says.
            resume_from_checkpoint: Where to go on: a path, a name as `epoch_3`, `best` or `latest`.

        Raises:
            RunError: If there are checkpoints already and none is named to go on from.
            RunBusyError: If another process trains here.
            CheckpointNotFoundError, CorruptCheckpointError, MismatchError: As `restore`.
            HorizonError: If the schedule ends before *num_epochs*.
            NonFiniteLossError: If the loss is NaN or infinite.
            DiskFullError, StorageError: If nothing more can be written. What was saved stays.
        """
        return self._run(resume_from_checkpoint, total=num_epochs)

    def resume_training(self, num_epochs: int | None = None) -> dict[str, float]:
        """Go on from the latest checkpoint for *num_epochs* more epochs, or to the configured total.

        Where a run was made to go on from an older one and nothing was saved since, that one is the latest.

        In the middle of an epoch, that epoch is the first of them. The new total is kept in the run's configuration, so
        that a run which is killed once more goes on to it.

        Raises:
            CheckpointNotFoundError: If there is none; names the directory.
            RunBusyError, HorizonError, NonFiniteLossError, …: As `run`.
        """
        return self._run("latest", more=num_epochs)

    def restore(self, checkpoint: Path | str) -> ResumeReport:
        """Load *checkpoint* whole, and return what was restored, what was not, and what is not as it was.

        Args:
            checkpoint: A path, or a name here: `epoch_3`, `best`, `latest`, `final`.

        Raises:
            CheckpointNotFoundError: If there is none, or it was not saved by a run.
            CorruptCheckpointError: If it was changed.
            MismatchError: If it does not fit what the configuration builds. Nothing was changed.
        """
        self.setup()
        report = self._saving.restore(checkpoint)
        self.config = self._saving.config
        return report

    def save_checkpoint(self, path: Path | str | None = None, *, is_best: bool = False) -> Path | str:
        """Save where training stands, whatever the strategy says, and return where that is.

        Args:
            path: Copy the checkpoint there too: it is complete by itself.
            is_best: Keep it whatever is saved later, by a pin.

        Raises:
            RunError: If nothing was trained yet, or there is something at *path*.
            NonFiniteLossError: If this is no state to go on from.
        """
        self.setup()
        if path is not None and self._world.first(Path(path).exists):
            msg = f"{path} is there already; remove it, or choose another name"
            raise RunError(msg)
        self.engine.check_finite()
        self._saving.save_here("asked for")
        if self._saving.at is None or self._saving.saved != self.engine.position:
            msg = f"nothing was trained yet in {self.directory.path}; run() first"
            raise RunError(msg)
        location = self.checkpoints.storage.location(self._saving.at)
        if is_best:
            self.checkpoints.pin(self._saving.at)
        if path is None:
            return location
        self._world.first(lambda: shutil.copytree(location, path))
        return Path(path)

    def get_model_manager(self) -> ModelManager:
        """Return the model as it is now, to predict with, to measure, to look at and to export.

        Raises:
            RunError: If no process holds the whole of it.
        """
        self.setup()
        if self._world.size > 1 and self.config.training.parallel == "fsdp":
            msg = "each process holds a shard of the model; ModelManager.from_checkpoint(PATH) puts it together"
            raise RunError(msg)
        return ModelManager.from_experiment(self)

    def export_model(self, path: Path | str) -> Path:
        """Write the weights as they are now to *path*; see `ModelManager.save`."""
        manager = self.get_model_manager()
        return self._world.first(lambda: manager.save(path))

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is any here."""
        self.setup()
        return self._world.first(lambda: bool(self.checkpoints.list_checkpoints()))

    @property
    def has_begun(self) -> bool:
        """Whether there is something to go on from: a checkpoint here, or one elsewhere that the run began with."""
        return self.has_checkpoints or self._world.first(self.directory.branch_file.is_file)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks where several train: rank 0, or the only one."""
        return self.setup()._world.is_first  # noqa: SLF001 - our own

    @property
    def training_batches(self) -> Batches:
        """What is trained on."""
        return self.setup()._training  # noqa: SLF001 - our own

    def evaluate(self, data_loader: Iterable[Sequence[Tensor]] | None = None) -> dict[str, float]:
        """Return loss and metrics over *data_loader*, pairs of input and target, or over the validation data."""
        self.setup()
        if data_loader is None:
            return self._measure_validation(self._validation.epoch(0))
        return self._measure(data_loader)

    # ------------------------------------------------------------------ the loop

    def _run(
        self, checkpoint: Path | str | None, *, total: int | None = None, more: int | None = None
    ) -> dict[str, float]:
        early = f"before training began; {AGAIN}" if checkpoint is None else WENT_ON
        with self._stop.listening():
            with self._stop.ending(early):
                self.setup()
            with self._world.hold(self.directory.busy):
                with self._stop.ending(early):
                    record = self._prepare(checkpoint, total, more)
                metrics = self._watched(record)
                let_go(self._saving, self.directory.branch_file)
                return metrics

    def _prepare(self, checkpoint: Path | str | None, total: int | None, more: int | None) -> RunRecord:
        """Begin, or go on from *checkpoint*, and write down what is going to be trained."""
        self.resume_report = self._begin(checkpoint)
        if more is not None:
            if self._stopping is not None and self._stopping.reason is not None:
                msg = f"training ended early: {self._stopping.reason}; begin a run with a larger patience"
                raise RunError(msg)
            total = self.engine.position.epoch + more
        planned = self.config.training.num_epochs if checkpoint is None else self._read_planned()
        total = planned if total is None else total
        self._lay_out(total, max(total, planned))
        if self.engine.position.epoch < total:
            take_off_final(self._saving)
        return RunRecord(
            id=self._run_id,
            directory=self.directory.path,
            model_name=self.config.model.name,
            num_epochs=total,
            batches_per_epoch=len(self._training),
            **as_facts(self.resume_report),
            config=as_data(self.config),
        )

    def _begin(self, checkpoint: Path | str | None) -> ResumeReport | None:
        if checkpoint is None:
            if self.has_checkpoints:
                msg = (
                    f"{self.directory.path} holds checkpoints already; `mlc resume {self.directory.path}` goes on from "
                    "the latest, another run directory begins anew"
                )
                raise RunError(msg)
            if self.engine.position != Position():
                msg = (
                    f"this experiment is at step {self.engine.position.step} already; make a new ExperimentManager to "
                    "begin anew, or say resume_from_checkpoint"
                )
                raise RunError(msg)
            self.directory.branch_file.unlink(missing_ok=True)  # of a run that was given up before it saved anything
            return None
        report = go_on(self._saving, checkpoint, self.directory.branch_file)
        self.config = self._saving.config
        if self._world.is_first:
            warn_of_differences(report, depth=5)
        return report

    def _read_planned(self) -> int:
        """Return how many epochs there are to be: no fewer than the run was extended to."""
        file, given = self.directory.config_file, self.config.training.num_epochs
        written = self._world.first(lambda: self.directory.read_config().training.num_epochs if file.is_file() else 0)
        if written > given:
            log.warning(
                "training.num_epochs = %d is less than the %d that %s has; the larger one holds", given, written, file
            )
        return max(written, given)

    def _lay_out(self, total: int, planned: int) -> None:
        """Make sure that *total* epochs can be trained, and write down that *planned* ones are going to be."""
        training = self.config.training
        check_horizon(self.config.scheduler, self.engine.rate, epochs=total, steps_per_epoch=len(self._training))
        training = attrs.evolve(training, num_epochs=planned)
        self.config = attrs.evolve(self.config, training=training)
        self._saving.config = self.config
        self._world.first(self._write_down)

    def _write_down(self) -> None:
        self.directory.write(self.config, self._run_id)
        self.directory.write_environment(self._saving.environment())

    def _watched(self, record: RunRecord) -> dict[str, float]:
        """Train, and tell everyone of the beginning and the end, whatever the end is."""
        events.run_started(record)
        watching: list[Observer] = []
        error: BaseException | None = None
        try:
            for observer in self._observers:
                observer.run_started(record, self.engine.position)
                watching.append(observer)
            return self._train(record.num_epochs)
        except BaseException as caught:
            error = caught
            raise
        finally:
            tell_end(watching, self.engine.position, error)
            events.run_ended(record, error)
            del error  # its traceback holds this frame, and with it the loaders and their processes

    def _train(self, total: int) -> dict[str, float]:
        return Loop(
            self.config,
            self.engine,
            training=self._training,
            validation=self._validation,
            measure=self._measure_validation,
            checkpoints=self._saving,
            stopping=self._stopping,
            stop=self._stop,
            observers=self._observers,
        ).train(total)

    def _measure_validation(self, batches: Iterable[Sequence[Tensor]]) -> dict[str, float]:
        return self._measure(batches, length_of=self._validation.length_of)

    def _measure(
        self, batches: Iterable[Sequence[Tensor]], *, length_of: Callable[[int], int] | None = None
    ) -> dict[str, float]:
        engine, training = self.engine, self.config.training
        return measure(
            engine.measured,
            batches,
            loss=engine.loss,
            metric=assembly.make_metric(self.config.metrics),
            device=engine.device,
            seed=training.seed,
            precision=Precision(training.precision, engine.device),
            world=self._world,
            length_of=length_of,
        )
