"""Region overlap: Dice and Jaccard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.base import (
    SegmentationLoss,
    describe_input,
    only_where,
    reduce,
    require_reduction,
    working_dtype,
)
from mlc_losses.errors import LossConfigError
from mlc_losses.options import EMPTIES, require_choice, require_flag, require_number

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.options import Empty, Mode, Reduction

__all__ = ["DiceLoss"]

EMPTY_MEANS = {
    "volume": "its loss is mean(p), so that false positives cost something and teach",
    "smooth": "the formula stands; with a small s false positives cost 1 and their gradient is next to 0",
    "skip": "it leaves the mean and its count; nothing is learnt from it",
}


class DiceLoss(SegmentationLoss):
    """Dice loss (Milletari et al. 2016), or with *jaccard* the Jaccard loss (Rahman and Wang 2016).

    With `p` the probabilities, `t` the target, `tp` their overlap and `s` the *smooth*:

    - Dice: `1 - (2·tp + s) / (Σp + Σt + s)`
    - Jaccard: `1 - (tp + s) / (Σp + Σt - tp + s)`

    `s` stands beside `2·tp` and the sum of both sizes for Dice: 3 true positives, 1 false positive, 2 false negatives
    and `s = 1` are a Dice of 7/10. For Jaccard it stands beside `tp` and the union. Libraries differ here; the same
    number elsewhere may be another loss.

    The overlap is `Σ min(p, t)`, which is `Σ p·t` for masks of 0 and 1, and which makes a prediction that equals a soft
    target cost 0 (Wang et al. 2023). With *squared_pred* it is `Σ p·t` and the sizes are `Σp²` and `Σt²`, as in
    Milletari.

    One region is one channel of one sample, or with *batch* one channel of all samples. A region whose valid voxels
    hold no foreground has no overlap to speak of; *empty* says what it costs:

    - "volume": `mean(p)`. The gradient is 1 over the number of voxels for each p, whatever *smooth* is.
    - "smooth": the formula as it stands, `1 - s / (Σp + s)`. The gradient is `s / (Σp + s)²`: at `s = 1e-6` and a
      thousand false positives 1e-12, so nothing is learnt from empty masks. Wants a *smooth* above 0.
    - "skip": nothing; the region leaves the mean, its count and the gradient.

    A region without a valid voxel is left out under each of them.

    Args:
        smooth: `s` above, at least 0.
        jaccard: Intersection over union in place of Dice.
        squared_pred: Squares in the sizes.
        batch: Regions over the whole batch, which steadies small batches of small objects.
        empty: What a region without foreground costs.
        mode: "binary" for one channel, "multilabel" for several that may overlap.
        from_logits: Whether *pred* is logits, or probabilities.
        reduction: "mean" over the valid regions, "sum", or "none" for `(B, C)` (`(C,)` with *batch*) with 0 where a
            region is left out.
        check_inputs: Whether every call checks the values of its tensors; see `forward`.

    Raises:
        LossConfigError: If an option is none of these.
    """

    def __init__(
        self,
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
    ) -> None:
        super().__init__(mode=mode, from_logits=from_logits, check_inputs=check_inputs)
        self.smooth = require_number("smooth", smooth)
        self.jaccard = require_flag("jaccard", jaccard)
        self.squared_pred = require_flag("squared_pred", squared_pred)
        self.batch = require_flag("batch", batch)
        self.reduction = require_reduction(reduction)
        require_choice("empty", empty, EMPTIES)
        self.empty: Empty = empty
        if empty == "smooth" and self.smooth == 0:
            msg = "empty='smooth' with smooth=0 is 0/0 on an empty mask; give a smooth above 0, or empty='volume'"
            raise LossConfigError(msg)

    def compute(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss of *pred* against *target*; both are known to be good."""
        dtype = working_dtype(pred, target)
        axes = (0, *range(2, pred.dim())) if self.batch else tuple(range(2, pred.dim()))
        p = _probabilities(pred.to(dtype), mask, from_logits=self.from_logits)
        t = only_where(mask, target.to(dtype))
        if self.squared_pred:
            overlap = (p * t).sum(axes)
            size_p, size_t = p.square().sum(axes), t.square().sum(axes)
        else:
            overlap = _least(p, t, soft=target.is_floating_point()).sum(axes)
            size_p, size_t = p.sum(axes), t.sum(axes)
        count = _count_voxels(p, mask, axes)
        valid, foreground = count > 0, size_t > 0
        losses = self._lose(overlap, size_p + size_t, defined=foreground | (self.empty == "smooth"))
        if self.empty == "volume":
            volume = p.sum(axes) if self.squared_pred else size_p
            losses = torch.where(foreground, losses, volume / count.clamp_min(1))
        elif self.empty == "skip":
            valid = foreground
        return reduce(only_where(valid, losses), valid.sum(), self.reduction)

    def _lose(self, overlap: Tensor, sizes: Tensor, *, defined: Tensor) -> Tensor:
        above = overlap if self.jaccard else 2 * overlap
        below = sizes - overlap if self.jaccard else sizes
        below = only_where(defined, below + self.smooth, 1.0)  # no 0/0, whose NaN would live on in the gradient
        return 1 - (above + self.smooth) / below

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        p, t = ("Σp²", "Σt²") if self.squared_pred else ("Σp", "Σt")
        overlap = "Σ p·t" if self.squared_pred else "Σ min(p, t), which is Σ p·t for masks of 0 and 1"
        formula = f"1 - (tp + s) / ({p} + {t} - tp + s)" if self.jaccard else f"1 - (2·tp + s) / ({p} + {t} + s)"
        region = "channel of the whole batch" if self.batch else "channel of each sample"
        return "\n".join(
            (
                f"{'Jaccard' if self.jaccard else 'Dice'} loss = {formula}",
                f"  s = {self.smooth:g}, tp = {overlap}",
                f"  {describe_input(self)}",
                f"  sums over the valid voxels of each {region}; reduction {self.reduction}",
                f"  a region without foreground (empty={self.empty}): {EMPTY_MEANS[self.empty]}",
            )
        )


def _probabilities(pred: Tensor, mask: Tensor | None, *, from_logits: bool) -> Tensor:
    """Return probabilities that are 0, with a gradient of 0, where *mask* is false."""
    if from_logits:
        return torch.sigmoid(only_where(mask, pred, float("-inf")))
    return only_where(mask, pred)


def _least(p: Tensor, t: Tensor, *, soft: bool) -> Tensor:
    """Return min(p, t) with the gradient of p·t where t is 0 or 1, also where p has reached t."""
    return torch.where((p < t) | (t == 1), p, t) if soft else p * t


def _count_voxels(p: Tensor, mask: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    everywhere = torch.ones((), dtype=torch.bool, device=p.device) if mask is None else mask
    return everywhere.expand(p.shape).sum(axes)
