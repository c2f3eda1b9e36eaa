"""From a configuration to the parts of a run, each checked when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mlc_core import CheckpointManager, save_strategies
from mlc_core.retention import KeepBest, KeepLatest, KeepUnrepeated
from mlc_losses import LossConfigError, LossManager, get_preset_loss_config
from mlc_trainer.data import Batches
from mlc_trainer.distributed import ALONE, Cut
from mlc_trainer.distributed.wrapping import make_parallel, make_twin
from mlc_trainer.engine import Engine
from mlc_trainer.errors import ConfigError
from mlc_trainer.factories import build, find_class
from mlc_trainer.fusing import with_fused
from mlc_trainer.measure import to_channels_last
from mlc_trainer.randomness import MODEL, mix, seed_generators
from mlc_trainer.rates import check_step, make_learning_rate
from mlc_trainer.recomputing import recompute_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_losses import Loss, LossScheduler
    from mlc_trainer.config import (
        CheckpointsConfig,
        DataConfig,
        ExperimentConfig,
        LossConfig,
        MetricsConfig,
        ModelConfig,
    )
    from mlc_trainer.data import DataModule
    from mlc_trainer.distributed import World
    from mlc_trainer.metrics import Metric

__all__ = [
    "make_checkpoints",
    "make_data",
    "make_engine",
    "make_loss",
    "make_loss_scheduler",
    "make_metric",
    "make_model",
    "make_shared_loss",
    "make_trained_loss",
    "make_training_batches",
    "make_validation_batches",
    "pick_device",
]


def pick_device(name: str) -> torch.device:
    """Return the device called *name*; `auto` is CUDA where there is one.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if name == "cuda":  # that of this process, where each has its own
            device = torch.device("cuda", torch.cuda.current_device())
        torch.empty(0, device=device)  # CUDA has no generators to seed before its first use
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        msg = f"device {name!r} cannot be used here ({cause}); 'auto' takes CUDA where there is one"
        raise ConfigError(msg) from error
    return device


def make_model(config: ModelConfig, *, seed: int, device: torch.device) -> torch.nn.Module:
    """Build the model on *device*, its first weights drawn from *seed*."""
    kind = find_class(config.factory, base=torch.nn.Module)
    seed_generators(mix(MODEL, seed), device)
    model: torch.nn.Module = build(kind, options=config.options)
    return model.to(device)


def make_data(config: DataConfig) -> DataModule:
    """Build the source of data."""
    kind = find_class(config.factory, methods=("training", "validation"))
    data: DataModule = build(kind, options=config.options)
    return data


def make_training_batches(
    config: DataConfig,
    data: DataModule,
    *,
    seed: int,
    device: torch.device,
    accumulate: int = 1,
    world: World = ALONE,
) -> Batches:
    """Return the batches to train on, of each the samples of this process."""
    order = {"shuffle": config.shuffle, "drop_last": config.drop_last}
    cut, how = Cut(accumulate, world.rank, world.size), _loading(config, seed=seed, device=device)
    return Batches(data.training(), **order, name="training", cut=cut, **how)


def make_validation_batches(
    config: DataConfig, data: DataModule, *, seed: int, device: torch.device, world: World = ALONE
) -> Batches:
    """Return the batches to measure on: all of them, in the order of the data, of each the samples of this process."""
    cut = Cut(1, world.rank, world.size)
    how = _loading(config, seed=seed, device=device)
    return Batches(data.validation(), shuffle=False, name="validation", cut=cut, **how)


def _loading(config: DataConfig, *, seed: int, device: torch.device) -> dict[str, Any]:
    return {
        "seed": seed,
        "batch_size": config.batch_size,
        "workers": config.workers,
        "pin_memory": device.type == "cuda",
    }


def make_loss(
    config: LossConfig, device: torch.device, *, world: World = ALONE
) -> tuple[Loss, Mapping[str, Any] | None]:
    """Build the loss on *device*, and return with it how its weights are to be moved, if they are.

    Where there are several processes, its means go over the samples of all of them.
    """
    preset = get_preset_loss_config(config.preset) if config.preset is not None else {}
    whole = {**preset, **config.config}
    scheduler = whole.pop("scheduler", None)
    loss, scheduler = make_shared_loss(whole, scheduler, world)
    loss.to(device)
    return loss, scheduler


def make_shared_loss(
    config: Mapping[str, Any], scheduler: Mapping[str, Any] | None, world: World
) -> tuple[Loss, Mapping[str, Any] | None]:
    """Build the loss that *config* describes over the samples of all processes, and return how *scheduler* moves it.

    Raises:
        ConfigError: If it cannot add up what several processes hold.
        LossConfigError: If *config* cannot be followed.
    """
    loss = LossManager.create_loss_function(config)
    if world.size == 1:
        return loss, scheduler
    try:
        loss = LossManager.create_loss_function({**config, "distributed": True})
    except LossConfigError as error:
        msg = f"this loss cannot add up what several processes hold: {error}; take another one, or one process"
        raise ConfigError(msg) from error
    return loss, None if scheduler is None else {**scheduler, "distributed": False}  # each is told the same


def make_trained_loss(config: LossConfig, device: torch.device, state: Mapping[str, Any]) -> Loss:
    """Build the loss on *device* with its weights as *state* has them, learnt ones too."""
    loss, moved = make_loss(config, device)
    if moved is not None:
        make_loss_scheduler(loss, moved, torch.optim.SGD([torch.zeros(1, device=device)]))
    loss.load_state_dict(state)
    return loss


def make_metric(config: MetricsConfig | None) -> Metric | None:
    """Build a metric that has seen nothing yet."""
    if config is None:
        return None
    metric: Metric = build(find_class(config.factory, methods=("update", "compute")), options=config.options)
    return metric


def make_engine(
    config: ExperimentConfig, *, device: torch.device, steps_per_epoch: int, world: World = ALONE
) -> Engine:
    """Build model, loss, optimizer and schedules, and the engine around them.

    Raises:
        ConfigError: If one cannot be built, or does not go with several processes.
    """
    training = config.training
    model = make_model(config.model, seed=training.seed, device=device)
    if training.gradient_checkpointing:
        model = recompute_blocks(model)
    if training.channels_last:
        model = to_channels_last(model)
    twin = None if world.size == 1 else make_twin(model, training, device)
    forward = model if world.size == 1 else make_parallel(model, training, device)
    kind = find_class(config.optimizer.name, within="torch.optim", base=torch.optim.Optimizer)
    check_step(kind)
    parameters = [one for one in model.parameters() if one.requires_grad]
    if not parameters:
        why = "all have requires_grad = False" if list(model.parameters()) else "its constructor assigns none"
        msg = f"{config.model.factory} has no parameters to train: {why}; give the optimizer something to move"
        raise ConfigError(msg)
    rate = config.optimizer.options.get("lr")
    if isinstance(rate, str):
        msg = f"optimizer.options.lr = {rate!r} is a text and must be a number, as 1e-3"
        raise ConfigError(msg)
    options = with_fused(kind, config.optimizer.options, training.fused, device)
    optimizer = build(kind, parameters, options=options)
    loss, moved = make_loss(config.loss, device, world=world)
    loss_scheduler = None if moved is None else make_loss_scheduler(loss, moved, optimizer, world=world)
    rate = None
    if config.scheduler is not None:
        rate = make_learning_rate(
            config.scheduler, optimizer, epochs=training.num_epochs, steps_per_epoch=steps_per_epoch
        )
    return Engine(
        model=model,
        loss=loss,
        optimizer=optimizer,
        rate=rate,
        loss_scheduler=loss_scheduler,
        device=device,
        seed=training.seed,
        clip_norm=training.clip_norm,
        precision=training.precision,
        accumulate=training.accumulate,
        ema_decay=training.ema_decay,
        swa_start=training.swa_start,
        channels_last=training.channels_last,
        compiled=training.compile,
        on_nonfinite=training.on_nonfinite,
        world=world,
        forward=forward,
        twin=twin,
    )


def make_loss_scheduler(
    loss: Loss, config: Mapping[str, Any], optimizer: torch.optim.Optimizer, *, world: World = ALONE
) -> LossScheduler:
    """Build what moves the weights of *loss*; what it learns is learnt by *optimizer*.

    Raises:
        ConfigError: If it learns, and there are several processes.
    """
    scheduler = LossManager.create_loss_scheduler(loss, config)
    if scheduler.schedule.learns and world.size > 1:
        msg = "weights of the loss that are learnt do not go with several processes; take another loss schedule"
        raise ConfigError(msg)
    if scheduler.schedule.learns:
        scheduler.train_with(optimizer)
    return scheduler


def make_checkpoints(
    config: CheckpointsConfig, directory: Path, *, model_name: str, run: str | None, world: World = ALONE
) -> CheckpointManager | DistributedCheckpointManager:
    """Open the checkpoints of *model_name* in *directory*."""
    best = KeepBest(metric=config.monitor_metric, mode=config.mode)
    ends = KeepLatest(count=config.max_checkpoints - 1, epoch_ends_only=True) & KeepUnrepeated()
    strategy = save_strategies().make(config.save_strategy, **config.strategy_options)
    what: dict[str, Any] = {
        "save_strategy": strategy,
        "monitor_metric": config.monitor_metric,
        "mode": config.mode,
        "retention": best | ends | KeepLatest(),
        "run": run,
    }
    if world.size == 1:
        return CheckpointManager(directory, model_name, **what)
    if config.asynchronous:
        msg = "checkpoints.asynchronous does not go with several processes, which save together; leave it out"
        raise ConfigError(msg)
    from mlc_core.distributed import DistributedCheckpointManager

    return DistributedCheckpointManager(directory, model_name, **what, process_group=world.group)
