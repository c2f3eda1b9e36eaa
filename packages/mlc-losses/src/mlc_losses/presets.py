"""Configurations by name."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from mlc_hooks import UnknownNameError
from mlc_hooks.hints import known_names, nearest
from mlc_losses.options import MODES, require_choice

if TYPE_CHECKING:
    from mlc_losses.options import Mode

__all__ = ["PRESETS", "get_preset_loss_config"]

PRESETS: dict[str, dict[str, Any]] = {
    "balanced_segmentation": {
        "type": "combined",
        "dice_weight": 0.5,
        "bce_weight": 0.5,
        "dice_config": {"smooth": 1e-6},
    },
    "default_segmentation": {
        "type": "combined",
        "dice_weight": 0.7,
        "bce_weight": 0.3,
        "dice_config": {"smooth": 1e-6},
    },
    "dice_focused": {
        "type": "combined",
        "dice_weight": 0.8,
        "bce_weight": 0.2,
        "dice_config": {"smooth": 1e-6},
    },
    "focal_segmentation": {
        "type": "combined",
        "dice_weight": 0.6,
        "bce_weight": 0.4,
        "dice_config": {"smooth": 1e-6},
        "bce_config": {"gamma": 2.0, "alpha": 0.25},  # Lin's alpha: the foreground weighs a third of the background
    },
    "jaccard_based": {
        "type": "combined",
        "dice_weight": 0.7,
        "bce_weight": 0.3,
        "dice_config": {"smooth": 1e-6, "jaccard": True},
    },
}


def get_preset_loss_config(name: str, *, mode: Mode = "binary") -> dict[str, Any]:
    """Return the configuration called *name*, fresh: change it as you like.

    With mode="multiclass" its voxel by voxel half is `cross_entropy`. That has no *alpha*, which weighs foreground
    against background; `class_weights` weigh classes.

    Raises:
        UnknownNameError: If there is none of that name; says what is close.
        LossConfigError: If there is no such mode.
    """
    if name not in PRESETS:
        msg = f"Unknown loss preset {name!r}.{nearest(name, PRESETS)} {known_names('Known', PRESETS)}"
        raise UnknownNameError(msg)
    require_choice("mode", mode, MODES)
    config = deepcopy(PRESETS[name])
    if mode != "binary":
        config["mode"] = mode
    if mode == "multiclass":
        config["cross_entropy_weight"] = config.pop("bce_weight")
        if "bce_config" in config:
            config["cross_entropy_config"] = {"gamma": config.pop("bce_config")["gamma"]}
    return config
