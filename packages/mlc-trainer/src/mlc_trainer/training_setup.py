"""What a training loop is made of before its first step: a loss and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_core import create_checkpoint_manager
from mlc_losses import LossManager
from mlc_trainer.errors import RunError
from mlc_trainer.training_record import TrainingRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core import CheckpointManager
    from mlc_losses import Loss
    from mlc_trainer.engine import Engine

__all__ = ["TrainingSetup"]


class TrainingSetup(TrainingRecord):
    """A record that is given a loss and checkpoints before training begins."""

    loss_function: Loss
    _engine: Engine | None
    _loss_schedule: Mapping[str, Any] | None = None

    def setup_loss_function(self, config: Mapping[str, Any]) -> Loss:
        """Make the loss that *config* describes; a `scheduler` in it moves the weights after every epoch.

        Raises:
            RunError: If training has begun.
            LossConfigError, UnknownNameError: If *config* cannot be followed.
        """
        self._refuse_late("the loss")
        whole = dict(config)
        schedule = whole.pop("scheduler", None)
        self.loss_function = LossManager.create_loss_function(whole)
        self._loss_schedule = schedule
        return self.loss_function

    def setup_checkpointing(self, config: Mapping[str, Any]) -> CheckpointManager:
        """Make the manager of checkpoints that *config* describes, as `create_checkpoint_manager` does.

        Raises:
            RunError: If training has begun.
            ConfigurationError: If *config* cannot be followed.
        """
        self._refuse_late("checkpointing")
        directory = self.model_dir / "checkpoints"
        self.checkpoint_manager = create_checkpoint_manager(directory, self.model_name, config)
        return self.checkpoint_manager

    def _refuse_late(self, what: str) -> None:
        if self._engine is not None:
            msg = f"training has begun at step {self.position.step}; {what} is set up before the first step"
            raise RunError(msg)
