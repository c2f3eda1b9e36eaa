"""What losses over regions share: options, empty regions, and the mean over regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.base import SummedLoss
from mlc_losses.classes import explain_classes, explain_smoothing, weigh_classes
from mlc_losses.errors import LossConfigError
from mlc_losses.inputs import known_all, only_where
from mlc_losses.options import (
    EMPTIES,
    require_background,
    require_batch,
    require_choice,
    require_class_weights,
    require_flag,
    require_number,
)
from mlc_losses.reduction import add_up_processes, reduce
from mlc_losses.terms import RegionSums, RegionTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Empty, Mode, Reduction

__all__ = ["RegionLoss"]

SMOOTH = 1e-6


class RegionLoss(SummedLoss):
    """A loss that compares each region of the prediction with the same region of the target.

    One region is one channel of one sample, or with *batch* one channel of all samples. Its overlap `tp` is
    `Σ min(p, t)`, which is `Σ p·t` for masks of 0 and 1, and which makes a prediction that equals a soft target cost 0
    (Wang et al. 2023). With *squared_pred* it is `Σ p·t` and the sizes are `Σp²` and `Σt²` (Milletari et al. 2016).

    A region whose valid voxels hold no foreground has no overlap to speak of; *empty* says what it costs:

    - "volume": it is as different as `(Σp + Σt - 2·tp) / (n + s)` for its `n` voxels, which is `mean(p)` where *smooth*
      is next to 0, or `mean(p²)` with *squared_pred*. So Dice costs `mean(p)`, with a gradient of 1/n in each p,
      log-Dice `-log(1 - mean(p))` and focal Tversky `mean(p)^gamma`.
    - "formula": the formula as it stands. The gradient of a Dice loss is `s / (Σp + s)²`: at `s = 1e-6` and a thousand
      false positives 1e-12, so nothing is learnt from empty masks. Wants a *smooth* above 0.
    - "skip": nothing; the region leaves the mean, its count and the gradient.

    A region without a valid voxel is left out under each of them.

    Args:
        smooth: `s` in the formula, at least 0, in the numerator and the denominator.
        smooth_nr: `s` of the numerator alone, where it differs.
        smooth_dr: `s` of the denominator alone, where it differs.
        squared_pred: Squares in the sizes.
        batch: Regions over the whole batch, which steadies small batches of small objects.
        include_background: Whether channel 0 is a region. Of several channels one can be left out, of one none.
        class_weights: How much the regions of each channel count in the mean; only ratios matter. A channel that does
            not count may have any weight.
        empty: What a region without foreground costs.
        label_smoothing: `e` in `t·(1-e) + e/K`, from 0 to 1, with K channels, or 2 where each channel stands alone.
        mode, from_logits, ignore_index, check_inputs: As every loss.
        reduction: "mean" over the valid regions, "sum", "sample" for one mean for each sample `(B,)`, or "none" for
            `(B, C)` (`(C,)` with *batch*), times class weight, with 0 where a region is left out.
        distributed: Whether sums go over all processes: with *batch* regions over the batch of all of them.

    Raises:
        LossConfigError: If an option is none of these.
    """

    term: RegionTerm
    class_weights: Sequence[float] | None

    def __init__(
        self,
        *,
        smooth: float = SMOOTH,
        smooth_nr: float | None = None,
        smooth_dr: float | None = None,
        squared_pred: bool = False,
        batch: bool = False,
        include_background: bool = True,
        class_weights: Sequence[float] | None = None,
        empty: Empty = "volume",
        label_smoothing: float = 0.0,
        mode: Mode = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        reduction: Reduction = "mean",
        distributed: bool = False,
        check_inputs: bool = True,
    ) -> None:
        super().__init__(
            reduction=reduction,
            distributed=distributed,
            mode=mode,
            from_logits=from_logits,
            ignore_index=ignore_index,
            check_inputs=check_inputs,
        )
        if smooth != SMOOTH and smooth_nr is not None and smooth_dr is not None:
            msg = f"smooth={smooth!r} would be unused beside smooth_nr and smooth_dr; leave it out"
            raise LossConfigError(msg)
        self.smooth_nr = _require_smooth("smooth_nr", smooth_nr, smooth)
        self.smooth_dr = _require_smooth("smooth_dr", smooth_dr, smooth)
        self.batch = require_batch(batch, reduction=reduction)
        self.include_background = require_background(include_background, mode=mode)
        self.class_weights = require_class_weights(class_weights, mode=mode)
        require_choice("empty", empty, EMPTIES)
        self.empty: Empty = empty
        if empty == "formula" and self.smooth_dr == 0:
            msg = "empty='formula' with smooth=0 is 0/0 on an empty mask; give a smooth above 0, or empty='volume'"
            raise LossConfigError(msg)
        self.term = RegionTerm(
            squared=require_flag("squared_pred", squared_pred),
            smoothing=require_number("label_smoothing", label_smoothing, high=1.0),
        )

    def judge(self, sums: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss that follows from the *sums* of `term`."""
        if self.batch:
            sums = sums.sum(1)
            sums = add_up_processes(sums) if self.distributed else sums
        regions = RegionSums(sums)
        present = regions.present > 0
        if known_all(present):  # nothing to choose, then: where there is foreground something counts
            losses = self.lose(self.compare(regions, defined=None))
            weights = None
        else:
            losses, weights = self._choose(regions, present)
        of_classes = weigh_classes(self, inputs)
        if of_classes is not None:
            weights = of_classes.expand_as(losses) if weights is None else weights * of_classes
            losses = only_where(of_classes > 0, losses) * of_classes
        return reduce(losses, weights, self.reduction, everywhere=self.distributed and not self.batch)

    def _choose(self, regions: RegionSums, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of regions that may be empty, and 1 for each that counts, 0 for the others."""
        valid = regions.count > 0
        if self.empty == "skip":
            valid = valid & present
        losses = self.lose(self.compare(regions, defined=present | (self.empty == "formula")))
        if self.empty == "volume":
            losses = torch.where(present, losses, self.lose(self.compare_empty(regions)))
        return only_where(valid, losses), valid.to(losses.dtype)

    def compare(self, regions: RegionSums, *, defined: Tensor | None) -> Tensor:
        """Return how alike prediction and target are, 1 for the same, and anything finite where not *defined*."""
        above, below = self.ratio(regions)
        below = only_where(defined, below + self.smooth_dr, 1.0)  # no 0/0, whose NaN would live on in the gradient
        return (above + self.smooth_nr) / below

    def compare_empty(self, regions: RegionSums) -> Tensor:
        """Return how alike prediction and target are where there is no foreground."""
        outside = regions.size_p + regions.size_t - 2 * regions.overlap
        below = regions.count + self.smooth_nr
        return 1 - outside / torch.where(below > 0, below, 1)

    def ratio(self, regions: RegionSums) -> tuple[Tensor, Tensor]:
        """Return numerator and denominator of the likeness, without smoothing."""
        raise NotImplementedError

    def lose(self, alike: Tensor) -> Tensor:
        """Return the loss of regions that are so much *alike*."""
        return 1 - alike

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        overlap = "Σ p·t" if self.term.squared else "Σ min(p, t), which is Σ p·t for masks of 0 and 1"
        if self.smooth_nr == self.smooth_dr:
            smooth = f"s = {self.smooth_nr:g}"
        else:
            smooth = f"s = {self.smooth_nr:g} above the line, {self.smooth_dr:g} below it"
        empties = {
            "volume": f"it costs {self.explain_different('m')}, m = (Σp + Σt - 2·tp) / (n + s), which is mean(p)",
            "formula": "the formula stands",
            "skip": "it leaves the mean and its count; nothing is learnt from it",
        }
        over = f"{self.explain_region()}; reduction {self.reduction}{explain_classes(self)}"
        return "\n".join(
            (
                f"{self.explain_formula()}",
                f"  {smooth}, tp = {overlap}{explain_smoothing(self.term.smoothing)}",
                f"  {self.explain_inputs()}",
                f"  sums over the valid voxels of {over}",
                f"  a region without foreground (empty={self.empty}): {empties[self.empty]}",
            )
        )

    def explain_formula(self) -> str:
        """Return the formula in use, in one line."""
        raise NotImplementedError

    def explain_different(self, different: str) -> str:
        """Return the loss of regions that are *different* by so much, which is 1 minus how much they are alike."""
        return different

    def explain_region(self) -> str:
        """Say what one region is."""
        return "each channel of the whole batch" if self.batch else "each channel of each sample"

    def explain_sizes(self) -> tuple[str, str]:
        """Return what the sizes of prediction and target are in the formula."""
        return ("Σp²", "Σt²") if self.term.squared else ("Σp", "Σt")


def _require_smooth(name: str, own: float | None, both: float) -> float:
    return require_number("smooth", both) if own is None else require_number(name, own)
