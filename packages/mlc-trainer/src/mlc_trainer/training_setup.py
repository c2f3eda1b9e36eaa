"""What a training loop is made of before its first step: a loss, checkpoints, batches, shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import torch

from mlc_trainer.assembly import make_shared_loss
from mlc_trainer.data import Batches
from mlc_trainer.distributed import ALONE, Cut
from mlc_trainer.distributed.wrapping import check_parallel, make_twin, shard
from mlc_trainer.errors import RunError
from mlc_trainer.measure import device_of
from mlc_trainer.owned_checkpoints import open_checkpoints
from mlc_trainer.training_record import TrainingRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from mlc_core import CheckpointManager
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_losses import Loss
    from mlc_trainer.config import TrainingConfig
    from mlc_trainer.distributed import World
    from mlc_trainer.engine import Engine

__all__ = ["TrainingSetup"]


class TrainingSetup(TrainingRecord):
    """A record that is given a loss and checkpoints before training begins."""

    loss_function: Loss
    _engine: Engine | None
    _settings: TrainingConfig
    _world: World = ALONE
    _twin: nn.Module | None = None
    _loss_schedule: Mapping[str, Any] | None = None

    def setup_loss_function(self, config: Mapping[str, Any]) -> Loss:
        """Make the loss that *config* describes; a `scheduler` in it moves the weights after every epoch.

        Where several processes train, its means go over the samples of all of them.

        Raises:
            RunError: If training has begun.
            ConfigError: If it cannot add up what several processes hold.
            LossConfigError, UnknownNameError: If *config* cannot be followed.
        """
        self._refuse_late("the loss")
        whole = dict(config)
        schedule = whole.pop("scheduler", None)
        self.loss_function, self._loss_schedule = make_shared_loss(whole, schedule, self._world)
        return self.loss_function

    def setup_checkpointing(self, config: Mapping[str, Any]) -> CheckpointManager | DistributedCheckpointManager:
        """Make the manager of checkpoints that *config* describes, as `create_checkpoint_manager` does.

        Where several processes train it is a `DistributedCheckpointManager`, and takes the options of that one.

        Raises:
            RunError: If training has begun.
            ConfigurationError: If *config* cannot be followed.
        """
        self._refuse_late("checkpointing")
        directory = self.model_dir / "checkpoints"
        self.checkpoint_manager = open_checkpoints(directory, self.model_name, config, self._world)
        return self.checkpoint_manager

    def shard(self, model: nn.Module, *, blocks: Sequence[str] = ()) -> nn.Module:
        """Give each process its shard of *model* (FSDP2), in place, and return it; one process keeps the whole.

        To be called when the model is on its device, and before the optimizer is made: shards have other parameters.
        What is not sharded is copied to all processes (DDP).

        Args:
            model: What will be trained.
            blocks: Classes of modules that are gathered one at a time; default: what lies in a `ModuleList`.

        Raises:
            RunError: If training has begun.
            ConfigError: If the model has no module of such a class, or the manager's options do not go with shards.
        """
        self._refuse_late("sharding")
        if self._world.size > 1:
            sharded = attrs.evolve(self._settings, parallel="fsdp", shard_blocks=tuple(blocks))
            check_parallel(sharded)
            self._twin = make_twin(model, sharded, device_of(model))
            shard(model, device_of(model), blocks=blocks)
        return model

    def loader(
        self, dataset: Any, *, batch_size: int, shuffle: bool = True, drop_last: bool = False, workers: int = 0
    ) -> Batches:
        """Return the batches of a map-style *dataset*, resumable at any batch with any number of workers.

        *batch_size* is what a step sees: each of several processes loads its piece of every batch, and no more.
        """
        return Batches(
            dataset,
            seed=self._settings.seed,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            workers=workers,
            pin_memory=torch.cuda.is_available(),
            cut=Cut(self._settings.accumulate, self._world.rank, self._world.size),
        )

    def _refuse_late(self, what: str) -> None:
        if self._engine is not None:
            msg = f"training has begun at step {self.position.step}; {what} is set up before the first step"
            raise RunError(msg)
