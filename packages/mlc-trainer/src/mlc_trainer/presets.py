"""A training manager in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_core import get_preset_checkpoint_config
from mlc_losses import get_preset_loss_config
from mlc_trainer.catalogs import trackers
from mlc_trainer.training_manager import TrainingManager

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create_training_manager", "quick_training_setup"]


def quick_training_setup(model_dir: Path | str, model_name: str, **options: Any) -> TrainingManager:
    """Return a manager with the loss of `default_segmentation` and the checkpoints of `best_only`.

    Args:
        model_dir: Where checkpoints and the journal lie.
        model_name: The directory of the checkpoints in it.
        options: As of `TrainingManager`.
    """
    return create_training_manager(model_dir, model_name, **options)


def create_training_manager(
    model_dir: Path | str,
    model_name: str,
    loss_preset: str = "default_segmentation",
    checkpoint_preset: str = "best_only",
    *,
    enhanced: bool = True,
    **options: Any,
) -> TrainingManager:
    """Return a manager whose loss and checkpoints are set up by the names of presets.

    Args:
        model_dir: Where checkpoints and the journal lie.
        model_name: The directory of the checkpoints in it.
        loss_preset: A name that `get_preset_loss_config` takes.
        checkpoint_preset: A name that `get_preset_checkpoint_config` takes.
        enhanced: Whether every tracker that an installed plugin brings is told, unless *trackers* are named.
        options: As of `TrainingManager`.

    Raises:
        UnknownNameError: If there is no such preset; says what is close.
    """
    if enhanced and "trackers" not in options:
        brought = [one.full_name for one in trackers().offers() if one.plugin != "mlc-trainer"]
        options["trackers"] = brought
    manager = TrainingManager(model_dir, model_name, **options)
    manager.setup_loss_function(get_preset_loss_config(loss_preset))
    manager.setup_checkpointing(get_preset_checkpoint_config(checkpoint_preset))
    return manager
