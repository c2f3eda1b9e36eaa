"""A trained model by itself: from a checkpoint alone, ready to predict, to measure and to look at."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlc_core import CheckpointNotFoundError, open_checkpoint
from mlc_core.restore import restore_part
from mlc_trainer import assembly
from mlc_trainer.arithmetic import multiplying
from mlc_trainer.averaging import is_averaged
from mlc_trainer.config_files import from_data
from mlc_trainer.directory import RunDirectory
from mlc_trainer.errors import ConfigError
from mlc_trainer.exporting import export_model
from mlc_trainer.measure import device_of, measure
from mlc_trainer.pictures import draw_samples, first_samples
from mlc_trainer.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from torch import Tensor

    from mlc_core import CheckpointReader, Saved
    from mlc_losses import Loss
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.experiment import ExperimentManager
    from mlc_trainer.metrics import Metric

__all__ = ["ModelManager"]


class ModelManager:
    """A model with the configuration that it was trained from, or is measured by.

    It is that of a run, `ModelManager("runs/brain")`, or one at hand, `ModelManager(model=model, config=config)`.

    Args:
        experiment_dir: A run: the same as `from_experiment_dir` on the device that `auto` is.
        model: A model; it stays where it is, and is put into evaluation mode.
        config: What describes data, loss and metrics; of a run, it says so itself.

    Raises:
        ConfigError: If it is neither one nor the other, or both.
        RunError, CheckpointNotFoundError: As `from_experiment_dir`.
    """

    model: torch.nn.Module
    config: ExperimentConfig
    location: Path | str | None = None
    """Where the checkpoint lies that the weights are from; None for a model in memory."""

    def __init__(
        self,
        experiment_dir: Path | str | None = None,
        model: torch.nn.Module | None = None,
        config: ExperimentConfig | None = None,
    ) -> None:
        if experiment_dir is not None and model is None and config is None:
            self._hold(*_load(_best_of(Path(experiment_dir)), "auto"))
        elif experiment_dir is None and model is not None and config is not None:
            loss, _ = assembly.make_loss(config.loss, device_of(model))
            self._hold(model.eval(), config, loss)
        else:
            msg = "a ModelManager is of experiment_dir, or of model and config together"
            raise ConfigError(msg)

    @classmethod
    def _of(cls, *parts: Any) -> Self:
        made = cls.__new__(cls)
        made._hold(*parts)  # noqa: SLF001 - our own
        return made

    def _hold(
        self,
        model: torch.nn.Module,
        config: ExperimentConfig,
        loss: Loss,
        reader: CheckpointReader | None = None,
    ) -> None:
        self.model, self.config, self._loss = model, config, loss
        self._saved = None if reader is None else reader.saved
        self.location = None if reader is None else reader.location

    @classmethod
    def from_experiment(cls, experiment: ExperimentManager) -> ModelManager:
        """Take the model of *experiment* as it is now: a copy, which further training does not change."""
        engine = experiment.setup().engine
        model = copy.deepcopy(engine.measured).eval()
        loss = assembly.make_trained_loss(
            experiment.config.loss, engine.device, copy.deepcopy(engine.loss.state_dict())
        )
        return cls._of(model, experiment.config, loss)

    @classmethod
    def from_checkpoint(cls, checkpoint_path: Path | str, device: str = "auto") -> ModelManager:
        """Build the model that the checkpoint describes and give it its weights, verified.

        Raises:
            CheckpointNotFoundError: If there is none, or it was not saved by a run.
            CorruptCheckpointError: If it was changed.
            FactoryError: If the model's class cannot be had here.
            MismatchError: If the class is another by now, and the weights do not fit.
        """
        return cls._of(*_load(checkpoint_path, device))

    @classmethod
    def from_experiment_dir(cls, run_dir: Path | str, device: str = "auto") -> ModelManager:
        """Load the best checkpoint of a run, or the latest where none was measured.

        Raises:
            RunError: If *run_dir* is not the directory of a run.
            CheckpointNotFoundError: If it has no checkpoint yet.
        """
        return cls._of(*_load(_best_of(Path(run_dir)), device))

    @property
    def saved(self) -> Saved:
        """The checkpoint that the weights are from.

        Raises:
            CheckpointNotFoundError: If they are those of a model in memory.
        """
        if self._saved is None:
            msg = "this model is in memory, and no checkpoint holds it; save one first"
            raise CheckpointNotFoundError(msg)
        return self._saved

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return what the model returns for *inputs* `(B, …)`, on the CPU, batch by batch.

        It computes in the precision of the run, as `evaluate` does, and what it returns is float32.

        Raises:
            ConfigError: If the model does not take inputs of that shape.
        """
        size = self.config.data.batch_size
        try:
            with torch.no_grad(), multiplying(self.config.training.matmul_precision):
                return torch.cat([self._infer(part.to(self.device)).cpu() for part in torch.split(inputs, size)])
        except RuntimeError as error:
            msg = f"the model does not take inputs of shape {tuple(inputs.shape)}: {error}"
            raise ConfigError(msg) from error

    def _infer(self, inputs: Tensor) -> Tensor:
        with Precision(self.config.training.precision, self.device).cast():
            found: Tensor = self.model(inputs)
        return found.float() if found.dtype in {torch.bfloat16, torch.float16} else found

    def save(self, path: Path | str) -> Path:
        """Write the weights to *path*, all of them or nothing, and return it.

        A file that ends in `.safetensors` opens in anything that reads the format. Any other is written by
        `torch.save`: a state_dict that loads with `weights_only=True`.

        Raises:
            EntryExistsError: If there is something at *path*.
            DiskFullError, StorageError: If it cannot be written.
        """
        target = Path(path)
        export_model(self.model, target)
        return target

    def visualize(
        self,
        data_loader: Iterable[Sequence[Tensor]] | None = None,
        num_samples: int = 5,
        path: Path | str = "predictions.png",
    ) -> Path:
        """Draw *num_samples* images with the truth, the prediction and where they differ, and return the picture.

        Args:
            data_loader: Pairs of input and target; the run's validation data unless given. Of a volume, the slice in
                which there is most to be found is drawn.
            num_samples: How many, from the first on.
            path: The PNG to write.

        Raises:
            ConfigError: If there is no sample, or matplotlib is not installed.
        """
        batches = self._validation() if data_loader is None else data_loader
        images, truth = first_samples(batches, num_samples)
        options = {} if self.config.metrics is None else self.config.metrics.options
        draw_samples(images, truth, self.predict(images), Path(path), classes=options.get("classes"))
        return Path(path)

    def evaluate(
        self,
        data_loader: Iterable[Sequence[Tensor]] | None = None,
        metrics: Callable[[], Metric] | None = None,
    ) -> dict[str, float]:
        """Return loss and metrics, each named `val_…`, over pairs of input and target.

        Args:
            data_loader: The pairs in batches; the run's validation data unless given.
            metrics: What makes the metric to measure instead of the run's own, as `DiceScore`.

        Raises:
            ConfigError: If there is no batch, or one is no pair.
        """
        config, device = self.config, self.device
        with multiplying(config.training.matmul_precision):
            return measure(
                self.model,
                self._validation() if data_loader is None else data_loader,
                loss=self._loss,
                metric=assembly.make_metric(config.metrics) if metrics is None else metrics(),
                device=device,
                seed=config.training.seed,
                precision=Precision(config.training.precision, device),
            )

    def _validation(self) -> Iterable[Sequence[Tensor]]:
        config = self.config
        data = assembly.make_data(config.data)
        return assembly.make_validation_batches(config.data, data, seed=config.training.seed, device=self.device).epoch(
            0
        )


def _best_of(run_dir: Path) -> Path | str:
    """Return the best checkpoint of a run, or the latest where none was measured."""
    directory = RunDirectory(run_dir)
    config = directory.read_config()
    checkpoints = assembly.make_checkpoints(
        config.checkpoints, directory.checkpoints, model_name=config.model.name, run=None
    )
    path = checkpoints.get_best_checkpoint_path() or checkpoints.get_latest_checkpoint_path()
    if path is None:
        msg = f"no checkpoint in {directory.checkpoints} yet: the first one is saved at the end of the first epoch"
        raise CheckpointNotFoundError(msg)
    return path


def _load(checkpoint_path: Path | str, device: str) -> tuple[torch.nn.Module, ExperimentConfig, Loss, CheckpointReader]:
    """Return the model that a checkpoint describes, its configuration, its loss, and what reads it."""
    reader = open_checkpoint(checkpoint_path)
    if "experiment" not in reader.saved.items:
        msg = f"{checkpoint_path} does not say how its model is built: it was not saved by `mlc train`"
        raise CheckpointNotFoundError(msg)
    state = reader.load(only=("experiment", "loss"))
    config = from_data(state["experiment"], where=str(reader.location))
    chosen = assembly.pick_device(device)
    model = assembly.make_model(config.model, seed=config.training.seed, device=chosen)
    averaged = is_averaged(reader, config.training)
    restore_part(reader, model, item="average" if averaged else "model", prefix="module." if averaged else "")
    loss = assembly.make_trained_loss(config.loss, chosen, state["loss"])
    return model.eval(), config, loss, reader
