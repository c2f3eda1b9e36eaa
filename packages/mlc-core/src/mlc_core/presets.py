"""Configurations of managers by name, and a manager from a configuration."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from mlc_core.auto import AutoCheckpointManager
from mlc_core.errors import ConfigurationError
from mlc_core.manager import CheckpointManager
from mlc_hooks import UnknownNameError
from mlc_hooks.hints import known_names, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PRESETS", "create_checkpoint_manager", "get_preset_checkpoint_config"]

PRESETS: dict[str, dict[str, Any]] = {
    "adaptive": {"manager_type": "auto", "auto_strategy": "adaptive", "max_checkpoints": 5},
    "best_only": {"save_strategy": "best", "monitor_metric": "val_dice", "mode": "max", "max_checkpoints": 3},
    "every_epoch": {"save_strategy": "epoch", "max_checkpoints": 5},
    "performance_based": {"manager_type": "auto", "auto_strategy": "performance_based", "max_checkpoints": 3},
    "time_based": {"manager_type": "auto", "auto_strategy": "time_based", "max_checkpoints": 5},
}

PLACE = ("checkpoint_dir", "model_name")


def get_preset_checkpoint_config(name: str) -> dict[str, Any]:
    """Return the configuration called *name*, fresh: change it as you like.

    Raises:
        UnknownNameError: If there is none of that name; says what is close.
    """
    if name not in PRESETS:
        msg = f"Unknown checkpoint preset {name!r}.{nearest(name, PRESETS)} {known_names('Known', PRESETS)}"
        raise UnknownNameError(msg)
    return deepcopy(PRESETS[name])


def create_checkpoint_manager(
    checkpoint_dir: Path | str, model_name: str, config: Mapping[str, Any]
) -> CheckpointManager:
    """Return the manager that *config* describes: the arguments of `CheckpointManager` by name.

    With `"manager_type": "auto"` they are those of `AutoCheckpointManager`.

    Raises:
        ConfigurationError: If something in *config* is no such argument, or they contradict each other.
    """
    options = dict(config)
    kind = options.pop("manager_type", "standard")
    if kind not in {"standard", "auto"}:
        msg = f"manager_type={kind!r} must be 'standard' or 'auto'"
        raise ConfigurationError(msg)
    takes = set(inspect.signature(CheckpointManager).parameters).difference(PLACE)
    if kind == "auto":
        takes = (takes | set(inspect.signature(AutoCheckpointManager).parameters)) - {
            "options",
            "save_strategy",
            *PLACE,
        }
    unknown = sorted(set(options) - takes)
    if unknown:
        msg = f"{', '.join(unknown)}: no such option of manager_type={kind!r}, which takes {', '.join(sorted(takes))}"
        raise ConfigurationError(msg)
    manager = AutoCheckpointManager if kind == "auto" else CheckpointManager
    return manager(checkpoint_dir, model_name, **options)
