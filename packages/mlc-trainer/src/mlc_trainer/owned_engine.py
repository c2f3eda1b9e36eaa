"""The engine of a loop that its user owns, around the model and the optimizer that are theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from torch.nn.parallel import DistributedDataParallel

from mlc_trainer.assembly import make_loss_scheduler
from mlc_trainer.distributed.wrapping import check_parallel, copy_to_all, is_sharded
from mlc_trainer.engine import Engine
from mlc_trainer.errors import ConfigError
from mlc_trainer.measure import device_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from mlc_losses import Loss
    from mlc_trainer.config import TrainingConfig
    from mlc_trainer.distributed import World

__all__ = ["make_owned_engine"]


def make_owned_engine(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss,
    schedule: Mapping[str, Any] | None,
    settings: TrainingConfig,
    world: World,
    twin: nn.Module | None = None,
) -> Engine:
    """Return what trains *model*, which is copied to all processes unless it is sharded, as its *twin* then is.

    Raises:
        ConfigError: If model and optimizer cannot be trained by these processes, or not as *settings* say.
    """
    device = device_of(model)
    _check(model, optimizer, settings)
    if twin is None and is_sharded(model) and settings.ema_decay is not None:
        msg = "ema_decay wants a copy of the model, which one in shards does not give; shard it by manager.shard(model)"
        raise ConfigError(msg)
    loss.to(device)
    moved = None if schedule is None else make_loss_scheduler(loss, schedule, optimizer, world=world)
    forward = None
    if world.size > 1 and not is_sharded(model):
        forward = copy_to_all(model, device, find_unused_parameters=settings.find_unused_parameters)
    return Engine(
        model=model,
        loss=loss,
        optimizer=optimizer,
        device=device,
        seed=settings.seed,
        loss_scheduler=moved,
        keep_modes=False,  # in a loop of one's own they are one's own
        clip_norm=settings.clip_norm,
        precision=settings.precision,
        accumulate=settings.accumulate,
        ema_decay=settings.ema_decay,
        on_nonfinite=settings.on_nonfinite,
        world=world,
        forward=forward,
        twin=twin,
    )


def _check(model: nn.Module, optimizer: torch.optim.Optimizer, settings: TrainingConfig) -> None:
    if isinstance(model, DistributedDataParallel):
        msg = "the model is wrapped in DistributedDataParallel already; hand over its module, the manager wraps it"
        raise ConfigError(msg)
    if is_sharded(model):
        check_parallel(attrs.evolve(settings, parallel="fsdp"))
        trained = {id(one) for group in optimizer.param_groups for one in group["params"]}
        if trained.isdisjoint(map(id, model.parameters())):
            msg = "the optimizer was made before the model was sharded, and holds other parameters; make it after"
            raise ConfigError(msg)
