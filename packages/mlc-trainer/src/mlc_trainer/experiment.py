"""An experiment: the loop that is ours, over the engine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_trainer import assembly, environment, events
from mlc_trainer.config_files import as_data
from mlc_trainer.directory import RunDirectory
from mlc_trainer.errors import HorizonError, ResumeWarning, RunError
from mlc_trainer.measure import measure
from mlc_trainer.observers import Journal, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlc_core import CheckpointManager
    from torch import Tensor

    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.engine import Engine
    from mlc_trainer.observers import Observer

__all__ = ["ExperimentManager"]

LATEST_STATE = "latest state"


class ExperimentManager:
    """A run in a directory of its own: trained, killed, resumed to the bit, evaluated.

    After every epoch the latest state is on disk. Whatever kills the process, `resume_training` goes on from the last
    checkpoint, and the final weights are those of a run that nothing killed.

    Args:
        config: What the run is made of.
        run_dir: Where it lies; made when missing.
        observers: Who else watches, beside the journal.
    """

    engine: Engine
    checkpoints: CheckpointManager

    def __init__(self, config: ExperimentConfig, run_dir: Path | str, *, observers: Sequence[Observer] = ()) -> None:
        self.config = config
        self.directory = RunDirectory(Path(run_dir))
        self._observers = (Journal(self.directory.journal), *observers)
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
            config = self.config
            device = assembly.pick_device(config.training.device)
            environment.prepare(device, threads=config.training.threads, deterministic=config.training.deterministic)
            data = assembly.make_data(config.data)
            self._training, self._validation = assembly.make_batches(
                config.data, data, seed=config.training.seed, device=device
            )
            self.engine = assembly.make_engine(config, device=device, steps_per_epoch=len(self._training))
            self.checkpoints = assembly.make_checkpoints(
                config.checkpoints,
                self.directory.checkpoints,
                model_name=config.model.name,
                run=self.directory.run_id(),
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
            HorizonError: If the schedule ends before *num_epochs*.
            NonFiniteLossError: If the loss is NaN or infinite.
        """
        total = self.config.training.num_epochs if num_epochs is None else num_epochs
        self._check_horizon(total)
        with self.directory.busy():
            self.setup()
            source, changed = self._begin(resume_from_checkpoint)
            record = RunRecord(
                id=self.directory.run_id(),
                directory=self.directory.path,
                model_name=self.config.model.name,
                num_epochs=total,
                batches_per_epoch=len(self._training),
                resumed_from=source,
                differences=changed,
            )
            return self._watched(record)

    def resume_training(self, num_epochs: int | None = None) -> dict[str, float]:
        """Go on from the latest checkpoint for *num_epochs* more epochs, or to the configured total.

        Raises:
            CheckpointNotFoundError: If there is none; names the directory.
        """
        self.setup()
        total = None
        if num_epochs is not None:
            self.restore("latest")
            total = self.engine.position.epoch + num_epochs
        return self.run(total, resume_from_checkpoint="latest")

    def restore(self, checkpoint: Path | str) -> tuple[str, Sequence[str]]:
        """Load *checkpoint* whole, and return its name and what is not as it was when it was saved."""
        self.setup()
        engine = self.engine
        restored = self.checkpoints.load_checkpoint(checkpoint, engine.model, engine.optimizer, engine.scheduler)
        engine.loss.load_state_dict(restored.state["loss"])
        engine.load_state_dict(restored.state["engine"])
        return restored.saved.name, environment.differences(
            restored.state["environment"], environment.fingerprint(engine.device)
        )

    def evaluate(self, data_loader: Iterable[Sequence[Tensor]] | None = None) -> dict[str, float]:
        """Return loss and metrics over *data_loader*, pairs of input and target, or over the validation data."""
        self.setup()
        batches = self._validation.epoch(0) if data_loader is None else data_loader
        engine, metric = self.engine, assembly.make_metric(self.config.metrics)
        return measure(engine.model, batches, loss=engine.loss, metric=metric, device=engine.device)

    # ------------------------------------------------------------------ the loop

    def _begin(self, checkpoint: Path | str | None) -> tuple[str | None, Sequence[str]]:
        if checkpoint is None:
            if self.checkpoints.list_checkpoints():
                msg = (
                    f"{self.directory.path} holds checkpoints already; `mlc resume {self.directory.path}` goes on from "
                    "the latest, another run directory begins anew"
                )
                raise RunError(msg)
            self.directory.write_config(self.config)
            return None, ()
        source, changed = self.restore(checkpoint)
        if changed:
            what = "; ".join(changed)
            msg = f"going on from {source}, and the rest need not be equal to the bit: {what}"
            warnings.warn(msg, ResumeWarning, stacklevel=4)
        return source, changed

    def _watched(self, record: RunRecord) -> dict[str, float]:
        """Train, and tell everyone of the beginning and the end, whatever the end is."""
        for observer in self._observers:
            observer.run_started(record, self.engine.position)
        events.run_started(record)
        error: BaseException | None = None
        try:
            return self._train(record.num_epochs)
        except BaseException as caught:
            error = caught
            raise
        finally:
            for observer in self._observers:
                observer.run_ended(self.engine.position, error)
            events.run_ended(record, error)

    def _train(self, total: int) -> dict[str, float]:
        engine, metrics = self.engine, {}
        while engine.position.epoch < total:
            self._train_epoch()
            metrics = self._end_epoch()
        latest = self.checkpoints.get_latest_checkpoint_path()
        if latest is not None:
            self.checkpoints.set_pointer("final", latest)
            metrics = metrics or dict(self.checkpoints.list_checkpoints()[-1].metrics)
        return metrics

    def _train_epoch(self) -> None:
        engine, batches, log_every = self.engine, self._training, self.config.training.log_every
        step_ended = [observer.step_ended for observer in self._observers]
        for batch in batches.epoch(engine.position.epoch, first=engine.position.batch):
            values = engine.train_step(batch)
            for tell in step_ended:
                tell(engine.position)
            if engine.position.step % log_every == 0:
                self._log_step(values)
            if engine.position.batch < len(batches):  # the end of the epoch is saved when it was measured
                self._save_if_due()

    def _log_step(self, values: Mapping[str, Tensor]) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        for observer in self._observers:
            observer.step_logged(self.engine.position, {**numbers, "lr": self.engine.learning_rate})

    def _end_epoch(self) -> dict[str, float]:
        rate = self.engine.learning_rate
        training = self.engine.end_epoch()
        metrics = {**self.evaluate(), **training, "lr": rate}
        for observer in self._observers:
            observer.epoch_ended(self.engine.position, metrics)
        position = self.engine.position
        reason = self.checkpoints.due(epoch=position.epoch, step=position.step, metrics=metrics)
        self._save(reason or LATEST_STATE, epoch=position.epoch, epoch_ended=True, metrics=metrics)
        return metrics

    def _save_if_due(self) -> None:
        position = self.engine.position
        reason = self.checkpoints.due(epoch=position.epoch + 1, step=position.step, epoch_ended=False)
        if reason is not None:
            self._save(reason, epoch=position.epoch + 1, epoch_ended=False, metrics={})

    def _save(self, reason: str, *, epoch: int, epoch_ended: bool, metrics: Mapping[str, float]) -> None:
        engine = self.engine
        location = self.checkpoints.save_checkpoint(
            engine.model,
            engine.optimizer,
            engine.scheduler,
            epoch,
            metrics,
            step=engine.position.step,
            epoch_ended=epoch_ended,
            reason=reason,
            items={
                "engine": engine,
                "loss": engine.loss,
                "experiment": as_data(self.config),
                "environment": environment.fingerprint(engine.device),
            },
        )
        for observer in self._observers:
            observer.checkpoint_saved(engine.position, str(location))

    def _check_horizon(self, total: int) -> None:
        planned = self.config.training.num_epochs
        if total > planned and self.config.scheduler is not None:
            msg = (
                f"{total} epochs are more than the {planned} that {self.config.scheduler.name} was laid out for: its "
                "learning rate would be undefined or climb again. Begin a run with training.num_epochs set to the total"
            )
            raise HorizonError(msg)
