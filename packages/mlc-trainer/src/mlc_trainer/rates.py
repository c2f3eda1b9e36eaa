"""Learning-rate schedules: made to last as long as the run, stepped when they should be, and told what they go by."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LinearLR, SequentialLR

from mlc_hooks.hints import known_names, nearest
from mlc_trainer.errors import ConfigError, FactoryError, HorizonError
from mlc_trainer.factories import build, find_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mlc_trainer.config import SchedulerConfig

__all__ = ["LearningRate", "check_horizon", "check_step", "make_learning_rate"]

HORIZONS = ("total_steps", "T_max", "total_iters")  # what schedules call the number of their steps
PERIODS = (*HORIZONS, "step_size", "T_0", "T_mult", "step_size_up", "step_size_down")  # what schedules divide by
FIRST = 0.01  # the share of the rate that a warm-up begins with


class LearningRate:
    """A schedule of torch's, stepped after every step or every epoch.

    Args:
        scheduler: What has `step`, `state_dict` and `load_state_dict`.
        every: Whether it is stepped after every "step" or every "epoch".
        monitor: The metric that its `step` is called with; None if it is called with nothing.
    """

    def __init__(self, scheduler: Any, *, every: str = "step", monitor: str | None = None) -> None:
        self.scheduler = scheduler
        self._every = every
        self._monitor = monitor

    def step_ended(self) -> None:
        """Go on by a step."""
        if self._every == "step":
            self.scheduler.step()

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        """Go on by an epoch.

        Raises:
            ConfigError: If the metric that it goes by was not measured.
        """
        if self._every == "step":
            return
        if self._monitor is None:
            self.scheduler.step()
        elif self._monitor in metrics:
            self.scheduler.step(metrics[self._monitor])
        else:
            hint = f"{nearest(self._monitor, metrics)} {known_names('Measured', metrics)}"
            msg = f"scheduler.monitor = {self._monitor!r} was not measured.{hint}"
            raise ConfigError(msg)


def make_learning_rate(
    config: SchedulerConfig, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int
) -> LearningRate:
    """Build the schedule for a run of so many *epochs*.

    Raises:
        ConfigError, FactoryError: If it cannot be built, or not with such a warm-up or monitor.
    """
    _check(config)
    within = "torch.optim.lr_scheduler"
    kind = find_class(config.name, within=within, methods=("step", "state_dict", "load_state_dict"))
    check_step(kind, *(() if config.monitor is None else (0.0,)))
    length = _count_steps(config, epochs, steps_per_epoch) - config.warmup
    if length < 1:
        msg = f"scheduler.warmup = {config.warmup} {config.every}s is all of the run; make it shorter"
        raise ConfigError(msg)
    filled_in = {name: length for name in HORIZONS if name in inspect.signature(kind).parameters}
    if "epochs" in config.options:  # how OneCycleLR takes its horizon in two parts
        filled_in = {}
    if config.warmup and "total_steps" in inspect.signature(kind).parameters:
        msg = f"{config.name} warms up by itself (pct_start); leave scheduler.warmup out"
        raise ConfigError(msg)
    options = {**filled_in, **config.options}
    for name in PERIODS:
        if isinstance(options.get(name), (int, float)) and not options[name] > 0:
            msg = f"scheduler.options.{name} = {options[name]} must be more than 0"
            raise ConfigError(msg)
    scheduler = build(kind, optimizer, options=options)
    if config.warmup:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it steps its parts before the optimizer, as it is meant to
            grow = LinearLR(optimizer, start_factor=FIRST, total_iters=config.warmup)
            scheduler = SequentialLR(optimizer, [grow, scheduler], milestones=[config.warmup])
    return LearningRate(scheduler, every=config.every, monitor=config.monitor)


def check_step(kind: type[Any], *arguments: object) -> None:
    """Make sure that the method `step` of *kind* can be called with *arguments*.

    Raises:
        FactoryError: If it cannot.
    """
    try:
        inspect.signature(kind.step).bind(None, *arguments)
    except TypeError as error:
        called = "a metric, as scheduler.monitor says," if arguments else "nothing"
        msg = f"{kind.__qualname__} cannot be used here: its step() is called with {called} and {error}"
        raise FactoryError(msg) from None


def check_horizon(
    config: SchedulerConfig | None, rate: LearningRate | None, *, epochs: int, steps_per_epoch: int
) -> None:
    """Make sure that *rate* was laid out for so many *epochs*, if it was laid out for a number of steps at all.

    A horizon that is given in *config* is the user's decision, unless the schedule would raise at its end.

    Raises:
        HorizonError: If it was laid out for fewer.
    """
    if config is None or rate is None:
        return
    length = _count_steps(config, epochs, steps_per_epoch) - config.warmup
    inner = rate.scheduler._schedulers[-1] if config.warmup else rate.scheduler  # noqa: SLF001 - torch has no public way to it
    for name in HORIZONS:
        horizon = getattr(inner, name, None)
        if horizon is not None and horizon < length and (name == "total_steps" or name not in config.options):
            msg = (
                f"{config.name} was laid out for {horizon} {config.every}s and {epochs} epochs take {length}: its "
                "learning rate would be undefined or climb again. "
                f"Begin a run with training.num_epochs = {epochs}"
            )
            raise HorizonError(msg)


def _check(config: SchedulerConfig) -> None:
    if config.monitor is not None and config.every != "epoch":
        msg = f"scheduler.monitor = {config.monitor!r} is measured once an epoch; say scheduler.every = 'epoch'"
        raise ConfigError(msg)
    if config.monitor is not None and config.warmup:
        msg = f"scheduler.warmup = {config.warmup} cannot be had with scheduler.monitor: leave one out"
        raise ConfigError(msg)


def _count_steps(config: SchedulerConfig, epochs: int, steps_per_epoch: int) -> int:
    return epochs * (steps_per_epoch if config.every == "step" else 1)
