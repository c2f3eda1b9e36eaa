"""What the manager's arguments mean together, checked before anything is touched."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import attrs

from mlc_core.catalogs import open_storage, retention_policies, save_strategies
from mlc_core.errors import ConfigurationError, StorageError
from mlc_core.history import read_history, remembered_monitor
from mlc_core.manifest import MOST
from mlc_core.protocols import RetentionPolicy, SaveStrategy
from mlc_core.records import Monitor
from mlc_core.retention import KeepBestAndLatest
from mlc_core.strategies import Adaptive, AllOf, AnyOf, Best, FromFunction, PerformanceBased

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.protocols import Storage
    from mlc_core.records import Mode, Moment

__all__ = [
    "MAX_CHECKPOINTS",
    "choose_monitor",
    "choose_retention",
    "choose_strategy",
    "gather_items",
    "go_on_monitoring",
    "open_place",
    "read_count",
    "read_numbers",
]

MAX_CHECKPOINTS = 5
RECENT = 10_000  # notes, among which is the one that says what was monitored
MONITORING: dict[type, str] = {Adaptive: "adaptive", Best: "best", PerformanceBased: "performance_based"}


def choose_monitor(metric: str | None, mode: Mode | None, strategy: SaveStrategy) -> Monitor | None:
    """Return the monitor, or None where nothing is monitored.

    Raises:
        ConfigurationError: If one of *metric* and *mode* is missing, or *strategy* needs them.
    """
    example = "as monitor_metric='val_dice', mode='max'"
    if metric is not None and mode is not None:
        return Monitor(metric=metric, mode=mode)
    if metric is not None or mode is not None:
        msg = f"monitor_metric={metric!r} and mode={mode!r} go together, {example}"
        raise ConfigurationError(msg)
    needing = _needs_monitor(strategy)
    if needing is not None:
        msg = f"save_strategy={needing!r} needs a metric, {example}"
        raise ConfigurationError(msg)
    return None


def _needs_monitor(strategy: SaveStrategy) -> str | None:
    """Return the name of the part of *strategy* that can do nothing without a monitor, or None."""
    if isinstance(strategy, (AllOf, AnyOf)):
        return next((name for one in strategy.strategies if (name := _needs_monitor(one))), None)
    return next((name for kind, name in MONITORING.items() if isinstance(strategy, kind)), None)


def choose_strategy(given: str | SaveStrategy | Callable[[Moment], object]) -> SaveStrategy:
    """Return the strategy that is *given* by its name, by itself, or as a function of a moment.

    Raises:
        ConfigurationError: If it is none of these.
        UnknownNameError: If no plugin offers a strategy of that name.
    """
    if isinstance(given, str):
        return save_strategies().make(given)
    if isinstance(given, type) or not (isinstance(given, SaveStrategy) or callable(given)):
        msg = f"save_strategy={given!r} must be a name as 'best', a strategy as Best(), or a function of a moment"
        raise ConfigurationError(msg)
    return given if isinstance(given, SaveStrategy) else FromFunction(given)


def choose_retention(
    policy: str | RetentionPolicy | None, count: int | None, monitor: Monitor | None, strategy: SaveStrategy
) -> RetentionPolicy:
    """Return *policy*, or what *count* checkpoints mean: the best and the latest, then the ones before.

    With the strategy `best` one checkpoint can be both, so a *count* of 1 will do.

    Raises:
        ConfigurationError: If both are given, one of them is none, or one checkpoint would have to be both best and
            latest.
        UnknownNameError: If no plugin offers a policy of that name.
    """
    if policy is not None:
        if count is not None:
            msg = f"retention and max_checkpoints={count} both say what to keep; give one"
            raise ConfigurationError(msg)
        chosen = retention_policies().make(policy) if isinstance(policy, str) else policy
        if isinstance(chosen, type) or not isinstance(chosen, RetentionPolicy):
            msg = f"retention={policy!r} must be a name as 'latest', or a policy as KeepLatest(count=3)"
            raise ConfigurationError(msg)
        return chosen
    count = MAX_CHECKPOINTS if count is None else count
    if type(count) is not int or count < 1:
        msg = f"max_checkpoints={count!r} must be 1 or more"
        raise ConfigurationError(msg)
    if monitor is None:
        return KeepBestAndLatest(count=count)
    if count == 1 and not isinstance(strategy, Best):
        msg = "max_checkpoints=1 cannot keep both the best and the latest; take 2, or save_strategy='best'"
        raise ConfigurationError(msg)
    return KeepBestAndLatest(count=count, metric=monitor.metric, mode=monitor.mode)


def go_on_monitoring(
    storage: Storage, monitor: Monitor | None, policy: RetentionPolicy
) -> tuple[Monitor | None, RetentionPolicy]:
    """Return *monitor*, or what the last training here monitored, and the *policy* that then keeps its best, too.

    A script that resumes or evaluates without naming the metric must not take the best checkpoint for any other.
    """
    if monitor is not None:
        return monitor, policy
    with suppress(StorageError):
        monitor = remembered_monitor(read_history(storage, last=RECENT))
    if monitor is not None and isinstance(policy, KeepBestAndLatest) and policy.metric is None:
        policy = attrs.evolve(policy, metric=monitor.metric, mode=monitor.mode)
    return monitor, policy


def open_place(place: Path | str, model_name: str) -> Storage:
    """Open the storage of *model_name* in the directory or URL *place*."""
    if isinstance(place, str) and "://" in place:
        return open_storage(f"{place.rstrip('/')}/{model_name}")
    return open_storage(Path(place).expanduser() / model_name)


def read_count(name: str, value: SupportsIndex | None) -> int | None:
    """Return *value*, an epoch or a step, as a plain integer.

    Raises:
        ConfigurationError: If it is negative, or no integer at all.
    """
    if value is None:
        return None
    try:
        count = operator.index(value)
    except TypeError as error:
        msg = f"{name}={str(value)[:80]} is no integer"
        raise ConfigurationError(msg) from error
    if not 0 <= count < MOST:
        msg = f"{name}={count} must count from 0"
        raise ConfigurationError(msg)
    return count


def read_numbers(metrics: object) -> dict[str, float]:
    """Return *metrics* as plain floats; tensors of one element are numbers too.

    Raises:
        ConfigurationError: If one is no number, or its name no text; names it.
    """
    if metrics is not None and not isinstance(metrics, Mapping):
        msg = f"metrics={str(metrics)[:80]} must be numbers by name, as {{'val_dice': 0.85}}"
        raise ConfigurationError(msg)
    numbers = {}
    for name, value in (metrics or {}).items():
        if not isinstance(name, str):
            msg = f"metric {name!r} is named by a {type(name).__name__}; a name is text, as 'val_dice'"
            raise ConfigurationError(msg)
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            msg = f"metric {name!r} is {str(value)[:80]!r}, which is no number"
            raise ConfigurationError(msg) from error
    return numbers


def gather_items(
    model: object, optimizer: object, scheduler: object, items: Mapping[str, object] | None
) -> dict[str, object]:
    """Return by name what is given to be saved.

    Raises:
        ConfigurationError: If one is given twice, or something else than an optimizer or a scheduler in its place.
    """
    named = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    given = {name: item for name, item in named.items() if item is not None}
    for name in ("optimizer", "scheduler"):
        item = given.get(name, {})
        if not hasattr(item, "state_dict") and not isinstance(item, Mapping):
            msg = f"{name}={str(item)[:80]} has no state_dict(); name the arguments: {name}=…, epoch=…"
            raise ConfigurationError(msg)
    twice = sorted(set(given) & set(items or {}))
    if twice:
        msg = f"{', '.join(twice)} is given twice, as an argument and among items"
        raise ConfigurationError(msg)
    return {**given, **(items or {})}
