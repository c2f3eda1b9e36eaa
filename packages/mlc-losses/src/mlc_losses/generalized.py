"""Overlap of all classes at once, rare ones weighing more: generalised Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from mlc_losses.classes import weigh_classes
from mlc_losses.errors import LossConfigError
from mlc_losses.inputs import only_where
from mlc_losses.options import require_choice
from mlc_losses.reduction import add_up_processes, reduce
from mlc_losses.region import RegionLoss
from mlc_losses.terms import RegionSums

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import RegionOptions

__all__ = ["GeneralizedDiceLoss"]

VOLUMES = {"square": 2, "simple": 1, "uniform": 0}


class GeneralizedDiceLoss(RegionLoss):
    """Generalised Dice loss (Sudre et al. 2017): one Dice over all channels of a sample, `v` weighing each channel.

    `1 - (2·Σ_c v_c·tp_c + s) / (Σ_c v_c·(Σp_c + Σt_c) + s)` with `v_c = (least Σt / Σt_c)²`

    The weights are those of Sudre, `1 / (Σt_c)²`, times one number for the sample, so that the rarest channel weighs 1
    and `s` is in its voxels; at `s = 0` the loss is the same. A channel without foreground weighs as much as the
    rarest of the others. Where all are without, *empty* says what that costs; with "skip" such channels weigh nothing.

    Here a region is all channels of a sample, or with *batch* of the batch: "none" gives `(B,)`, or a single number.

    Args:
        volume_weights: "square" for the weights above, "simple" for their root, "uniform" for 1.
        options: What every loss over regions takes; see `RegionLoss`. *class_weights* multiply `v`.

    Raises:
        LossConfigError: If an option cannot be followed.
    """

    def __init__(
        self,
        *,
        volume_weights: Literal["square", "simple", "uniform"] = "square",
        **options: Unpack[RegionOptions],
    ) -> None:
        super().__init__(**options)
        require_choice("volume_weights", volume_weights, VOLUMES)
        self.volume_weights = volume_weights
        if self.mode == "binary" and volume_weights != "square":
            msg = f"volume_weights={volume_weights!r} weighs channels against each other, and mode='binary' has one"
            raise LossConfigError(msg)

    def judge(self, sums: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss that follows from the *sums* of `term`."""
        if self.batch:
            sums = sums.sum(1)
            sums = add_up_processes(sums) if self.distributed else sums
        each = RegionSums(sums)
        of_classes = weigh_classes(self, inputs)
        valid = each.count > 0
        valid = valid if of_classes is None else valid & (of_classes > 0)
        present = valid & (each.present > 0)
        weights = self._weigh(each.present, present)
        weights = weights if of_classes is None else weights * of_classes
        weights = only_where(present if self.empty == "skip" else valid, weights)
        whole = RegionSums((sums * weights).sum(-1))
        some, seen = present.any(-1), valid.any(-1)
        losses = self.lose(self.compare(whole, defined=some | (self.empty == "formula")))
        if self.empty == "volume":
            losses = torch.where(some, losses, self.lose(self.compare_empty(whole)))
        counted = some if self.empty == "skip" else seen
        everywhere = self.distributed and not self.batch
        losses = only_where(counted, losses)
        return reduce(losses, counted.to(losses.dtype), self.reduction, everywhere=everywhere)

    def _weigh(self, sizes: Tensor, present: Tensor) -> Tensor:
        least = torch.where(present, sizes, torch.inf).amin(-1, keepdim=True)
        return (least / torch.where(present, sizes, least)).nan_to_num(1.0) ** VOLUMES[self.volume_weights]

    def ratio(self, regions: RegionSums) -> tuple[Tensor, Tensor]:
        """Return numerator and denominator of the likeness, without smoothing."""
        return 2 * regions.overlap, regions.size_p + regions.size_t

    def explain_formula(self) -> str:
        """Return the formula in use, in one line."""
        p, t = self.explain_sizes()
        power = {"square": "(least Σt / Σt)²", "simple": "least Σt / Σt", "uniform": "1"}[self.volume_weights]
        return f"Generalised Dice loss = 1 - (2·Σv·tp + s) / (Σv·({p} + {t}) + s), over channels with v = {power}"

    def explain_region(self) -> str:
        """Say what one region is."""
        return "all channels of the whole batch together" if self.batch else "all channels of each sample together"
