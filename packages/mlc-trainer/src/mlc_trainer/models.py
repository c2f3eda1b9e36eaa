"""A trained model by itself: from a checkpoint alone, ready to predict, to measure and to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlc_core import CheckpointNotFoundError, open_checkpoint
from mlc_core.restore import restore_model
from mlc_trainer import assembly
from mlc_trainer.config_files import from_data
from mlc_trainer.directory import RunDirectory
from mlc_trainer.errors import ConfigError
from mlc_trainer.measure import measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from mlc_core import Saved
    from mlc_trainer.config import ExperimentConfig

__all__ = ["ModelManager"]


class ModelManager:
    """A model with the configuration that it was trained from.

    Args:
        model: The model.
        config: What its run was made of.
        saved: The checkpoint that its weights are from.
        location: Where that lies.
    """

    def __init__(self, model: torch.nn.Module, config: ExperimentConfig, saved: Saved, location: Path | str) -> None:
        self.model = model
        self.config = config
        self.saved = saved
        self.location = location

    @classmethod
    def from_checkpoint(cls, checkpoint_path: Path | str, device: str = "auto") -> ModelManager:
        """Build the model that the checkpoint describes and give it its weights, verified.

        Raises:
            CheckpointNotFoundError: If there is none, or it was not saved by a run.
            CorruptCheckpointError: If it was changed.
            FactoryError: If the model's class cannot be had here.
            MismatchError: If the class is another by now, and the weights do not fit.
        """
        reader = open_checkpoint(checkpoint_path)
        if "experiment" not in reader.saved.items:
            msg = f"{checkpoint_path} does not say how its model is built: it was not saved by `mlc train`"
            raise CheckpointNotFoundError(msg)
        state = reader.load(only=("experiment", "model"))
        config = from_data(state["experiment"], where=str(reader.location))
        model = assembly.make_model(config.model, seed=config.training.seed, device=assembly.pick_device(device))
        restore_model(model, state["model"], strict=True, where=reader.location)
        model.eval()
        return cls(model, config, reader.saved, reader.location)

    @classmethod
    def from_experiment_dir(cls, run_dir: Path | str, device: str = "auto") -> ModelManager:
        """Load the best checkpoint of a run, or the latest where none was measured.

        Raises:
            RunError: If *run_dir* is not the directory of a run.
            CheckpointNotFoundError: If it has no checkpoint yet.
        """
        directory = RunDirectory(Path(run_dir))
        config = directory.read_config()
        checkpoints = assembly.make_checkpoints(
            config.checkpoints, directory.checkpoints, model_name=config.model.name, run=None
        )
        path = checkpoints.get_best_checkpoint_path() or checkpoints.get_latest_checkpoint_path()
        if path is None:
            msg = f"no checkpoint in {directory.checkpoints} yet: the first one is saved at the end of the first epoch"
            raise CheckpointNotFoundError(msg)
        return cls.from_checkpoint(path, device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((one.device for one in self.model.parameters()), torch.device("cpu"))

    def predict(self, inputs: Tensor) -> Tensor:
        """Return what the model returns for *inputs* `(B, …)`, on the CPU, batch by batch.

        Raises:
            ConfigError: If the model does not take inputs of that shape.
        """
        size = self.config.data.batch_size
        try:
            with torch.no_grad():
                return torch.cat([self.model(part.to(self.device)).cpu() for part in torch.split(inputs, size)])
        except RuntimeError as error:
            msg = f"the model does not take inputs of shape {tuple(inputs.shape)}: {error}"
            raise ConfigError(msg) from error

    def evaluate(self, data_loader: Iterable[Sequence[Tensor]] | None = None) -> dict[str, float]:
        """Return loss and metrics over *data_loader*, pairs of input and target, or over the run's validation data."""
        config, device = self.config, self.device
        if data_loader is None:
            data = assembly.make_data(config.data)
            batches = assembly.make_validation_batches(config.data, data, seed=config.training.seed, device=device)
            data_loader = batches.epoch(0)
        loss, metric = assembly.make_loss(config.loss, device), assembly.make_metric(config.metrics)
        return measure(self.model, data_loader, loss=loss, metric=metric, device=device, seed=config.training.seed)
