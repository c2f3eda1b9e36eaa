"""The losses of this package, through the same door as everyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_losses.bce import BCELoss
    from mlc_losses.combined import CombinedLoss
    from mlc_losses.dice import DiceLoss
    from mlc_losses.options import Empty, Mode, Reduction
    from mlc_losses.protocols import Loss


@hookimpl
def mlc_losses() -> Mapping[str, Callable[..., Loss]]:
    """Offer Dice, Jaccard, BCE, focal, and weighted sums of losses."""
    return {"bce": bce, "combined": combined, "dice": dice, "focal": focal, "jaccard": jaccard}


def bce(
    *,
    gamma: float = 0.0,
    alpha: float | None = None,
    label_smoothing: float = 0.0,
    mode: Mode = "binary",
    from_logits: bool = True,
    reduction: Reduction = "mean",
    check_inputs: bool = True,
) -> BCELoss:
    """Compare voxel by voxel: binary cross entropy, or focal loss with a *gamma*."""
    from mlc_losses.bce import BCELoss

    return BCELoss(
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
        mode=mode,
        from_logits=from_logits,
        reduction=reduction,
        check_inputs=check_inputs,
    )


def focal(
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    label_smoothing: float = 0.0,
    mode: Mode = "binary",
    from_logits: bool = True,
    reduction: Reduction = "mean",
    check_inputs: bool = True,
) -> BCELoss:
    """Compare voxel by voxel and care less about the easy ones: `bce` with the options of Lin 2017."""
    return bce(
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
        mode=mode,
        from_logits=from_logits,
        reduction=reduction,
        check_inputs=check_inputs,
    )


def dice(
    *,
    smooth: float = 1e-6,
    jaccard: bool = False,
    squared_pred: bool = False,
    batch: bool = False,
    empty: Empty = "volume",
    mode: Mode = "binary",
    from_logits: bool = True,
    reduction: Reduction = "mean",
    check_inputs: bool = True,
) -> DiceLoss:
    """Compare regions by their overlap: Dice, or Jaccard."""
    from mlc_losses.dice import DiceLoss

    return DiceLoss(
        smooth=smooth,
        jaccard=jaccard,
        squared_pred=squared_pred,
        batch=batch,
        empty=empty,
        mode=mode,
        from_logits=from_logits,
        reduction=reduction,
        check_inputs=check_inputs,
    )


def jaccard(
    *,
    smooth: float = 1e-6,
    squared_pred: bool = False,
    batch: bool = False,
    empty: Empty = "volume",
    mode: Mode = "binary",
    from_logits: bool = True,
    reduction: Reduction = "mean",
    check_inputs: bool = True,
) -> DiceLoss:
    """Compare regions by intersection over union: `dice` with `jaccard=True`."""
    return dice(
        smooth=smooth,
        jaccard=True,
        squared_pred=squared_pred,
        batch=batch,
        empty=empty,
        mode=mode,
        from_logits=from_logits,
        reduction=reduction,
        check_inputs=check_inputs,
    )


def combined(**settings: object) -> CombinedLoss:
    """Add up other losses: `<name>_weight`, and `<name>_config` for its options."""
    from mlc_losses.configs import make_combined

    return make_combined(settings)
