"""A manager that chooses when to save and what to keep by one word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from mlc_core.catalogs import save_strategies
from mlc_core.errors import ConfigurationError
from mlc_core.manager import CheckpointManager
from mlc_core.options import MAX_CHECKPOINTS, choose_monitor, choose_retention
from mlc_core.retention import KeepBest, KeepLatest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlc_core.protocols import RetentionPolicy, SaveStrategy
    from mlc_core.records import Mode

__all__ = ["AutoCheckpointManager"]

AutoStrategy = Literal["adaptive", "performance_based", "time_based"]


class AutoCheckpointManager(CheckpointManager):
    """A `CheckpointManager` that needs to be told only what kind of saving is wanted.

    ::

        manager = AutoCheckpointManager("checkpoints", "unet", "adaptive", monitor_metric="val_dice", mode="max")
        manager.save_checkpoint(model, optimizer, epoch=1, metrics={"val_dice": 0.71})

    ===================== ============================================ ================================================
    *auto_strategy*       saves                                        keeps
    ===================== ============================================ ================================================
    `adaptive`            the best, often while the metric moves and   the best, the latest, and the ones before it
                          rarely when it has settled
    `performance_based`   what is better than the best by 0.5 %, and   the best ones, and the latest
                          every 10 epochs
    `time_based`          every 30 minutes of running time             the best, the latest, and the ones before it
    ===================== ============================================ ================================================

    Args:
        checkpoint_dir: A directory or a URL; the checkpoints lie in *model_name* below it.
        model_name: One directory per model.
        auto_strategy: `adaptive`, `performance_based` or `time_based`.
        max_checkpoints: How many to keep. Default 5.
        monitor_metric: The metric that says which is best. Without it and *mode*: `val_loss`, less is better.
        mode: `max` if more of the metric is better, `min` if less is.
        strategy_options: What the strategy takes, as `{"minutes": 10}`.
        retention: A policy instead of *max_checkpoints*.
        **options: Everything else that `CheckpointManager` takes.

    Raises:
        ConfigurationError: If the options contradict each other.
        OptionsError: If the strategy does not take those options.
    """

    def __init__(
        self,
        checkpoint_dir: Path | str,
        model_name: str,
        auto_strategy: AutoStrategy = "adaptive",
        max_checkpoints: int | None = None,
        monitor_metric: str | None = None,
        mode: Mode | None = None,
        *,
        strategy_options: Mapping[str, Any] | None = None,
        retention: RetentionPolicy | None = None,
        **options: Any,
    ) -> None:
        if auto_strategy not in get_args(AutoStrategy):
            msg = f"auto_strategy={auto_strategy!r} must be {' or '.join(map(repr, get_args(AutoStrategy)))}"
            raise ConfigurationError(msg)
        if monitor_metric is None and mode is None:
            monitor_metric, mode = "val_loss", "min"
        strategy = save_strategies().make(auto_strategy, **(strategy_options or {}))
        if auto_strategy == "performance_based" and retention is None:
            retention = _keep_best_ones(max_checkpoints, monitor_metric, mode, strategy)
            max_checkpoints = None
        super().__init__(
            checkpoint_dir,
            model_name,
            strategy,
            max_checkpoints,
            monitor_metric,
            mode,
            retention=retention,
            **options,
        )


def _keep_best_ones(
    count: int | None, metric: str | None, mode: Mode | None, strategy: SaveStrategy
) -> RetentionPolicy:
    monitor = choose_monitor(metric, mode, strategy)
    choose_retention(None, count, monitor, strategy)  # refuses what cannot be, as for every manager
    assert monitor is not None  # this strategy is refused without one
    few = (MAX_CHECKPOINTS if count is None else count) - 1
    return KeepBest(metric=monitor.metric, mode=monitor.mode, count=few) | KeepLatest()
