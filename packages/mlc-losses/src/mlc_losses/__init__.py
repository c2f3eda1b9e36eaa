"""Segmentation losses that are right at the edges, and combinations that say what they weigh."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc_losses.bce import BCELoss
    from mlc_losses.catalogs import losses
    from mlc_losses.combined import CombinedLoss
    from mlc_losses.dice import DiceLoss
    from mlc_losses.errors import LossConfigError, LossInputError
    from mlc_losses.manager import LossManager
    from mlc_losses.presets import get_preset_loss_config
    from mlc_losses.protocols import Loss
    from mlc_losses.records import Breakdown, Part

__all__ = [
    "BCELoss",
    "Breakdown",
    "CombinedLoss",
    "DiceLoss",
    "Loss",
    "LossConfigError",
    "LossInputError",
    "LossManager",
    "Part",
    "get_preset_loss_config",
    "losses",
]

_ROOMS = {
    "BCELoss": "bce",
    "Breakdown": "records",
    "CombinedLoss": "combined",
    "DiceLoss": "dice",
    "Loss": "protocols",
    "LossConfigError": "errors",
    "LossInputError": "errors",
    "LossManager": "manager",
    "Part": "records",
    "get_preset_loss_config": "presets",
    "losses": "catalogs",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: torch takes a second, and naming a preset needs none of it."""
    if name not in _ROOMS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found: object = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
