"""Segmentation losses that are right at the edges, and combinations that say what they weigh."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_losses.bce import BCELoss
    from mlc_losses.catalogs import loss_schedules, losses
    from mlc_losses.combined import CombinedLoss
    from mlc_losses.cross_entropy import CrossEntropyLoss
    from mlc_losses.deep_supervision import DeepSupervisionLoss
    from mlc_losses.dice import DiceLoss
    from mlc_losses.errors import LossConfigError, LossInputError
    from mlc_losses.generalized import GeneralizedDiceLoss
    from mlc_losses.lovasz import LovaszLoss
    from mlc_losses.manager import LossManager
    from mlc_losses.presets import get_preset_loss_config
    from mlc_losses.protocols import Loss, LossSchedule
    from mlc_losses.records import Breakdown, LossMoment, Part
    from mlc_losses.scheduler import LossScheduler
    from mlc_losses.tversky import TverskyLoss

__all__ = [
    "BCELoss",
    "Breakdown",
    "CombinedLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceLoss",
    "GeneralizedDiceLoss",
    "Loss",
    "LossConfigError",
    "LossInputError",
    "LossManager",
    "LossMoment",
    "LossSchedule",
    "LossScheduler",
    "LovaszLoss",
    "Part",
    "TverskyLoss",
    "get_preset_loss_config",
    "loss_schedules",
    "losses",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "bce": "BCELoss",
        "catalogs": "loss_schedules losses",
        "combined": "CombinedLoss",
        "cross_entropy": "CrossEntropyLoss",
        "deep_supervision": "DeepSupervisionLoss",
        "dice": "DiceLoss",
        "errors": "LossConfigError LossInputError",
        "generalized": "GeneralizedDiceLoss",
        "lovasz": "LovaszLoss",
        "manager": "LossManager",
        "presets": "get_preset_loss_config",
        "protocols": "Loss LossSchedule",
        "records": "Breakdown LossMoment Part",
        "scheduler": "LossScheduler",
        "tversky": "TverskyLoss",
    },
)
