"""The losses and schedules of this package, through the same door as everyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_hooks import hookimpl
from mlc_losses.lazy_class import LazyClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_losses.combined import CombinedLoss
    from mlc_losses.protocols import Loss, LossSchedule

FOCAL = {"gamma": 2.0, "alpha": 0.25}


@hookimpl
def mlc_losses() -> Mapping[str, Callable[..., Loss]]:
    """Offer losses over regions, over voxels, and weighted sums of losses."""
    dice, tversky = "mlc_losses.dice:DiceLoss", "mlc_losses.tversky:TverskyLoss"
    return {
        "bce": LazyClass("mlc_losses.bce:BCELoss", "Compare voxel by voxel: binary cross entropy, focal with a gamma."),
        "combined": combined,
        "cross_entropy": LazyClass(
            "mlc_losses.cross_entropy:CrossEntropyLoss",
            "Compare voxel by voxel over classes: cross entropy, focal with a gamma.",
            defaults={"mode": "multiclass"},
        ),
        "dice": LazyClass(dice, "Compare regions by their overlap."),
        "focal": LazyClass(
            "mlc_losses.bce:BCELoss", "Compare voxel by voxel and care less about the easy ones.", defaults=FOCAL
        ),
        "focal_cross_entropy": LazyClass(
            "mlc_losses.cross_entropy:CrossEntropyLoss",
            "Compare voxel by voxel over classes and care less about the easy ones.",
            defaults={"gamma": 2.0, "mode": "multiclass"},
        ),
        "focal_tversky": LazyClass(
            tversky, "Compare regions by overlap, and care more about the nearly right.", defaults={"gamma": 0.75}
        ),
        "generalized_dice": LazyClass(
            "mlc_losses.generalized:GeneralizedDiceLoss", "Compare all classes at once, rare ones weighing more."
        ),
        "jaccard": LazyClass(dice, "Compare regions by intersection over union.", fixed={"jaccard": True}),
        "log_dice": LazyClass(dice, "Compare regions by the logarithm of their overlap.", fixed={"log": True}),
        "lovasz": LazyClass("mlc_losses.lovasz:LovaszLoss", "Compare regions by intersection over union, sorted."),
        "tversky": LazyClass(tversky, "Compare regions by overlap, with a price for each kind of mistake."),
    }


@hookimpl
def mlc_loss_schedules() -> Mapping[str, Callable[..., LossSchedule]]:
    """Offer schedules that go by time, by a metric, and by the values of the components."""
    return {
        "adaptive": adaptive,
        "cosine": LazyClass(
            "mlc_losses.schedules.cosine:CosineSchedule", "Go from the base weights to others, gently."
        ),
        "performance": LazyClass(
            "mlc_losses.schedules.performance:PerformanceSchedule", "Change the weights when a metric stops improving."
        ),
        "step": LazyClass("mlc_losses.schedules.step:StepSchedule", "Change the weights at given steps."),
    }


def adaptive(*, method: str = "inverse", **settings: Any) -> LossSchedule:
    """Follow the values of the components, by a *method*: inverse, softadapt, dwa, relobralo or uncertainty."""
    from mlc_losses.schedules.adaptive.methods import make_adaptive

    return make_adaptive(method, settings)


def combined(**settings: Any) -> CombinedLoss:
    """Add up other losses: `<name>_weight`, and `<name>_config` for its options."""
    from mlc_losses.configs import make_combined

    return make_combined(settings)
