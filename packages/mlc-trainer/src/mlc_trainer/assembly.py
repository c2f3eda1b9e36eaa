"""From a configuration to the parts of a run, each checked when it is made."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from mlc_core import CheckpointManager, save_strategies
from mlc_core.retention import KeepBest, KeepLatest, KeepUnrepeated
from mlc_losses import LossManager, get_preset_loss_config
from mlc_trainer.data import Batches
from mlc_trainer.engine import Engine
from mlc_trainer.errors import ConfigError, FactoryError, HorizonError
from mlc_trainer.factories import build, find_class
from mlc_trainer.randomness import MODEL, mix, seed_generators

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_losses import Loss
    from mlc_trainer.config import (
        CheckpointsConfig,
        DataConfig,
        ExperimentConfig,
        LossConfig,
        MetricsConfig,
        ModelConfig,
        SchedulerConfig,
    )
    from mlc_trainer.data import DataModule
    from mlc_trainer.metrics import Metric

__all__ = [
    "check_horizon",
    "make_checkpoints",
    "make_data",
    "make_engine",
    "make_loss",
    "make_metric",
    "make_model",
    "make_training_batches",
    "make_validation_batches",
    "pick_device",
]

HORIZONS = ("total_steps", "T_max", "total_iters")  # what schedules call the number of their steps


def pick_device(name: str) -> torch.device:
    """Return the device called *name*; `auto` is CUDA where there is one.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
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


def make_training_batches(config: DataConfig, data: DataModule, *, seed: int, device: torch.device) -> Batches:
    """Return the batches to train on."""
    order = {"shuffle": config.shuffle, "drop_last": config.drop_last}
    return Batches(data.training(), **order, **_loading(config, seed=seed, device=device))


def make_validation_batches(config: DataConfig, data: DataModule, *, seed: int, device: torch.device) -> Batches:
    """Return the batches to measure on: all of them, in the order of the data."""
    return Batches(data.validation(), shuffle=False, **_loading(config, seed=seed, device=device))


def _loading(config: DataConfig, *, seed: int, device: torch.device) -> dict[str, Any]:
    return {
        "seed": seed,
        "batch_size": config.batch_size,
        "workers": config.workers,
        "pin_memory": device.type == "cuda",
    }


def make_loss(config: LossConfig, device: torch.device) -> Loss:
    """Build the loss on *device*."""
    preset = get_preset_loss_config(config.preset) if config.preset is not None else {}
    loss = LossManager.create_loss_function({**preset, **config.config})
    loss.to(device)
    return loss


def make_metric(config: MetricsConfig | None) -> Metric | None:
    """Build a metric that has seen nothing yet."""
    if config is None:
        return None
    metric: Metric = build(find_class(config.factory, methods=("update", "compute")), options=config.options)
    return metric


def make_engine(config: ExperimentConfig, *, device: torch.device, steps_per_epoch: int) -> Engine:
    """Build model, loss, optimizer and schedule, and the engine around them."""
    training = config.training
    model = make_model(config.model, seed=training.seed, device=device)
    kind = find_class(config.optimizer.name, within="torch.optim", base=torch.optim.Optimizer)
    _check_step(kind)
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = build(kind, parameters, options=config.optimizer.options)
    scheduler = config.scheduler
    length = _count_steps(scheduler, training.num_epochs, steps_per_epoch) if scheduler else 0
    return Engine(
        model=model,
        loss=make_loss(config.loss, device),
        optimizer=optimizer,
        scheduler=_make_scheduler(scheduler, optimizer, length) if scheduler else None,
        scheduler_every=scheduler.every if scheduler else "step",
        device=device,
        seed=training.seed,
        clip_norm=training.clip_norm,
    )


def _make_scheduler(config: SchedulerConfig, optimizer: torch.optim.Optimizer, length: int) -> Any:
    within = "torch.optim.lr_scheduler"
    kind = find_class(config.name, within=within, methods=("step", "state_dict", "load_state_dict"))
    _check_step(kind)
    filled_in = {name: length for name in HORIZONS if name in inspect.signature(kind).parameters}
    if "epochs" in config.options:  # how OneCycleLR takes its horizon in two parts
        filled_in = {}
    return build(kind, optimizer, options={**filled_in, **config.options})


def _check_step(kind: type[Any]) -> None:
    try:
        inspect.signature(kind.step).bind(None)
    except TypeError as error:
        msg = f"{kind.__qualname__} cannot be used here: its step() is called with nothing, and {error}"
        raise FactoryError(msg) from None


def check_horizon(config: SchedulerConfig | None, scheduler: Any, *, epochs: int, steps_per_epoch: int) -> None:
    """Make sure that *scheduler* was laid out for so many *epochs*, if it was laid out for a number of steps at all.

    A horizon that is given in *config* is the user's decision, unless the schedule would raise at its end.

    Raises:
        HorizonError: If it was laid out for fewer.
    """
    if config is None:
        return
    length = _count_steps(config, epochs, steps_per_epoch)
    for name in HORIZONS:
        horizon = getattr(scheduler, name, None)
        if horizon is not None and horizon < length and (name == "total_steps" or name not in config.options):
            msg = (
                f"{config.name} was laid out for {horizon} {config.every}s and {epochs} epochs take {length}: its "
                "learning rate would be undefined or climb again. "
                f"Begin a run with training.num_epochs = {epochs}"
            )
            raise HorizonError(msg)


def _count_steps(config: SchedulerConfig, epochs: int, steps_per_epoch: int) -> int:
    return epochs * (steps_per_epoch if config.every == "step" else 1)


def make_checkpoints(
    config: CheckpointsConfig, directory: Path, *, model_name: str, run: str | None
) -> CheckpointManager:
    """Open the checkpoints of *model_name* in *directory*."""
    best = KeepBest(metric=config.monitor_metric, mode=config.mode)
    ends = KeepLatest(count=config.max_checkpoints - 1, epoch_ends_only=True) & KeepUnrepeated()
    return CheckpointManager(
        directory,
        model_name,
        save_strategy=save_strategies().make(config.save_strategy, **config.strategy_options),
        monitor_metric=config.monitor_metric,
        mode=config.mode,
        retention=best | ends | KeepLatest(),
        run=run,
    )
