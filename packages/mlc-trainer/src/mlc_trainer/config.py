"""What a run is made of: frozen records, one for each table of a configuration file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from mlc_trainer.errors import ConfigError

__all__ = [
    "CheckpointsConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "ExperimentConfig",
    "LossConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PartConfig",
    "SchedulerConfig",
    "TrainingConfig",
]


MOST = 2**53
"""What counts steps, samples and seconds: more than any machine does, and exact in every number of Python and JSON."""
MOST_SECONDS = 10**8
"""Three years, for which a thread can wait; for ever is said by 0 or nothing."""
MOST_THREADS = 4096
"""Threads and processes: more than any machine has; for each one asked for, the operating system makes one."""


def _between(lowest: int, highest: float = MOST) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not lowest <= value <= highest:  # NaN is nowhere
            way = f"{lowest} or more" if value < lowest else f"from {lowest} to {highest}"
            msg = f"{attribute.name} = {value} must be {way}"
            raise ConfigError(msg)

    return check


def _at_least(lowest: int) -> Any:
    return _between(lowest)


def _above_zero(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        msg = f"{attribute.name} = {value} must be more than 0{', and finite' if value == math.inf else ''}"
        raise ConfigError(msg)


def _fraction(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value < 1:
        msg = f"{attribute.name} = {value} must lie between 0 and 1"
        raise ConfigError(msg)


def _one_of(*allowed: str) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
        if value not in allowed:
            msg = f"{attribute.name} = {value!r} must be {' or '.join(map(repr, allowed))}"
            raise ConfigError(msg)

    return check


def _plain(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *options* as they come back from a file, so that a resumed run is built from the same ones."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError) as error:
        msg = f"options {options!r} must be what a file can hold: {error}"
        raise ConfigError(msg) from error
    return plain


def _options() -> Any:
    return attrs.field(factory=dict, converter=_plain)


@attrs.frozen(kw_only=True)
class ModelConfig:
    """Which model: a subclass of `torch.nn.Module`, called with *options*."""

    factory: str
    """The import path of the class, as ```package.module:Class```."""
    options: Mapping[str, Any] = _options()
    name: str = "model"
    """The name of its directory of checkpoints."""


@attrs.frozen(kw_only=True)
class DataConfig:
    """Which data: a class with `training()` and `validation()`, each a map-style dataset of (input, target)."""

    factory: str
    options: Mapping[str, Any] = _options()
    batch_size: int = attrs.field(default=8, validator=_at_least(1))
    workers: int = attrs.field(default=0, validator=_between(0, MOST_THREADS))
    shuffle: bool = True
    drop_last: bool = False
    timeout: float | None = attrs.field(default=300.0, validator=_between(0, MOST_SECONDS))
    """Seconds that a batch may take until it is told where the loader hangs; 0 watches nothing."""
    on_stuck: Literal["report", "stop"] = attrs.field(default="report", validator=_one_of("report", "stop"))
    """Whether to wait on then, or to end the run."""


@attrs.frozen(kw_only=True)
class LossConfig:
    """Which loss: a *preset* of mlc-losses, a configuration dictionary as mlc-losses takes it, or one on the other."""

    preset: str | None = None
    config: Mapping[str, Any] = _options()
    """Replaces what the preset says, key by key."""

    def __attrs_post_init__(self) -> None:
        if self.preset is None and not self.config:
            msg = "loss needs a preset, as 'default_segmentation', or a config"
            raise ConfigError(msg)


@attrs.frozen(kw_only=True)
class OptimizerConfig:
    """Which optimizer: a name in `torch.optim`, or ``package.module:Class``."""

    name: str = "AdamW"
    options: Mapping[str, Any] = _options()


@attrs.frozen(kw_only=True)
class SchedulerConfig:
    """Which learning-rate schedule: a name in `torch.optim.lr_scheduler`, or ``package.module:Class``.

    Its horizon (`total_steps`, `T_max` or `total_iters`) is filled in from the length of the run if it is not given.
    """

    name: str
    options: Mapping[str, Any] = _options()
    every: Literal["step", "epoch"] = attrs.field(default="step", validator=_one_of("step", "epoch"))
    """After which of them it goes on."""
    warmup: int = attrs.field(default=0, validator=_at_least(0))
    """So many steps (or epochs, as *every* says) of a rate that grows from a hundredth, before the schedule begins."""
    monitor: str | None = None
    """The metric that a schedule such as `ReduceLROnPlateau` goes by, after every epoch."""


@attrs.frozen(kw_only=True)
class MetricsConfig:
    """What is measured after every epoch: a class with `update(prediction, target)` and `compute()`."""

    factory: str
    options: Mapping[str, Any] = _options()


@attrs.frozen(kw_only=True)
class CheckpointsConfig:
    """When to save besides the end of every epoch, which is always saved, and what to keep.

    Kept are the best, the latest `max_checkpoints - 1` ends of epochs, and the latest of all.
    """

    save_strategy: str = "epoch"
    """A name among the save strategies; `interval` with `every` and `unit = "steps"` saves within epochs."""
    strategy_options: Mapping[str, Any] = _options()
    max_checkpoints: int = attrs.field(default=5, validator=_at_least(2))
    monitor_metric: str = "val_loss"
    mode: Literal["min", "max"] = attrs.field(default="min", validator=_one_of("min", "max"))
    """Whether less or more of it is better."""
    asynchronous: bool = False
    """Copy the state and go on training while it is written; needs memory for one state more."""


@attrs.frozen(kw_only=True)
class PartConfig:
    """A part that a plugin offers by name, called with *options*."""

    name: str
    options: Mapping[str, Any] = _options()


@attrs.frozen(kw_only=True)
class EarlyStoppingConfig:
    """When training ends before its last epoch: a metric has not got better for some epochs."""

    metric: str = "val_loss"
    mode: Literal["min", "max"] = attrs.field(default="min", validator=_one_of("min", "max"))
    """Whether less or more of it is better."""
    patience: int = attrs.field(default=10, validator=_at_least(1))
    """Epochs in a row without a better one."""
    min_delta: float = attrs.field(default=0.0, validator=_at_least(0))
    """By how much it must be better to count."""


def _switch_or_auto(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value != "auto" and not isinstance(value, bool):
        msg = f"{attribute.name} = {value!r} must be 'auto', true or false"
        raise ConfigError(msg)


@attrs.frozen(kw_only=True)
class TrainingConfig:
    """How long, on what, from which seed."""

    num_epochs: int = attrs.field(validator=_at_least(1))
    seed: int = attrs.field(default=0, validator=_between(0, math.inf))
    device: str = "auto"
    """`auto` is CUDA where there is one, else the CPU."""
    threads: int | None = attrs.field(default=None, validator=_between(1, MOST_THREADS))
    """Threads of one operation on the CPU. Another number gives other bits."""
    clip_norm: float | None = attrs.field(default=None, validator=_above_zero)
    """Scale gradients to this norm where they exceed it."""
    precision: Literal["fp32", "bf16", "fp16"] = attrs.field(default="fp32", validator=_one_of("fp32", "bf16", "fp16"))
    """What operations that can do with less compute in; weights stay fp32. `fp16` scales the loss."""
    accumulate: int = attrs.field(default=1, validator=_at_least(1))
    """Into how many parts each batch is cut, one after the other on the device; the step is that of the whole batch."""
    ema_decay: float | None = attrs.field(default=None, validator=_fraction)
    """Keep a moving average of the weights with this decay; validation and export use it."""
    swa_start: int | None = attrs.field(default=None, validator=_at_least(1))
    """From the end of this epoch on, keep the mean of the weights at the ends of epochs; validation and export use it,
    with statistics of batch normalisation that a pass over the training data renews."""
    gradient_checkpointing: bool = False
    """Keep no activations within the blocks of the model, and compute them once more for the gradient: less memory."""
    fused: Literal["auto", True, False] = attrs.field(default="auto", validator=_switch_or_auto)
    """Whether the optimizer does a step in one kernel; `auto` is yes on CUDA where it can."""
    matmul_precision: Literal["highest", "high", "medium"] | None = attrs.field(
        default=None, validator=attrs.validators.optional(_one_of("highest", "high", "medium"))
    )
    """How exactly float32 matrices are multiplied: `high` is TF32 on GPUs that have it. None leaves it as it is."""
    channels_last: bool = False
    """Lay out images and weights with the channels last, which convolutions on tensor cores prefer."""
    compile: bool = False
    """Compile the model with `torch.compile`."""
    on_nonfinite: Literal["stop", "skip", "rollback"] = attrs.field(
        default="stop", validator=_one_of("stop", "skip", "rollback")
    )
    """What to do with a batch whose loss or gradient is NaN or infinite: stop the run, take no step, or go back to the
    last checkpoint and come by it without a step."""
    save_on_error: bool = False
    """Save where training stands when an exception ends it between two steps."""
    parallel: Literal["ddp", "fsdp"] = attrs.field(default="ddp", validator=_one_of("ddp", "fsdp"))
    """What each of several processes holds: `ddp` a copy of the model, `fsdp` a shard of it."""
    shard_blocks: tuple[str, ...] = ()
    """Classes of modules that `fsdp` gathers one at a time; by default the modules in each `ModuleList`."""
    find_unused_parameters: bool = False
    """Whether `ddp` looks, at every step, for parameters that took no part."""
    deterministic: bool = True
    """On CUDA, use deterministic algorithms only; an operation that has none raises."""
    log_every: int = attrs.field(default=10, validator=_at_least(1))
    """Steps between two lines in the journal; each one waits for the device."""

    def __attrs_post_init__(self) -> None:
        if self.swa_start is not None and self.ema_decay is not None:
            msg = f"swa_start = {self.swa_start} and ema_decay = {self.ema_decay} are two averages; leave one out"
            raise ConfigError(msg)
        if self.swa_start is not None and self.swa_start > self.num_epochs:
            msg = f"swa_start = {self.swa_start} is after the last epoch, {self.num_epochs}"
            raise ConfigError(msg)
        if self.gradient_checkpointing and self.compile:
            msg = "gradient_checkpointing and compile cannot be had together: a compiler decides itself what to keep"
            raise ConfigError(msg)


@attrs.frozen(kw_only=True)
class ExperimentConfig:
    """Everything a run is made of. The same configuration gives the same bits on the same machine."""

    model: ModelConfig
    data: DataConfig
    loss: LossConfig
    training: TrainingConfig
    optimizer: OptimizerConfig = attrs.field(factory=OptimizerConfig)
    scheduler: SchedulerConfig | None = None
    metrics: MetricsConfig | None = None
    checkpoints: CheckpointsConfig = attrs.field(factory=CheckpointsConfig)
    early_stopping: EarlyStoppingConfig | None = None
    callbacks: tuple[PartConfig, ...] = ()
    """Who is told in the loop; in a file, a table `[[callbacks]]` for each."""
    trackers: tuple[PartConfig, ...] = ()
    """Who is told in a thread of their own; in a file, a table `[[trackers]]` for each."""
