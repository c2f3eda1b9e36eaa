"""Intersection over union made smooth: Lovász."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.base import SegmentationLoss
from mlc_losses.classes import explain_classes, weigh_classes
from mlc_losses.errors import LossConfigError, LossInputError
from mlc_losses.inputs import only_where, sum_dtype, working_dtype
from mlc_losses.options import (
    REDUCTIONS,
    require_background,
    require_batch,
    require_choice,
    require_class_weights,
    require_distributed,
)
from mlc_losses.reduction import reduce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Empty, Mode, Reduction

__all__ = ["LovaszLoss"]

EMPTY_MEANS = {
    "volume": "its loss is mean(p), so that all false positives teach",
    "formula": "its loss is max(p), so that one false positive teaches",
    "skip": "it leaves the mean and its count; nothing is learnt from it",
}


class LovaszLoss(SegmentationLoss):
    """Lovász loss (Berman et al. 2018): the convex surrogate of 1 - IoU, on the errors of the probabilities.

    Each region's errors `|t - p|` are sorted, greatest first, and each costs what it takes from the intersection over
    union at its place: `Σ_i e_i·(J_i - J_(i-1))` with `J_i = 1 - (T - Σ_(j≤i) t_j) / (T + Σ_(j≤i) (1 - t_j))`. Where p
    is 0 or 1 everywhere this is 1 - IoU, exactly. There is nothing to smooth.

    With several channels this is Lovász-Softmax or its sigmoid sibling. It is not the Lovász hinge, which has no bound.

    Args:
        batch: Regions over the whole batch.
        include_background: Whether channel 0 is a region. Of several channels one can be left out, of one none.
        class_weights: How much the regions of each channel count in the mean; only ratios matter.
        empty: What a region without foreground costs: "volume" `mean(p)`, "formula" `max(p)`, "skip" nothing, and it
            leaves the mean (what Berman calls "present").
        mode, from_logits, ignore_index, check_inputs: As every loss. Targets hold 0 and 1.
        reduction: "mean" over the valid regions, "sum", "sample" for one mean for each sample `(B,)`, or "none" for
            `(B, C)` (`(C,)` with *batch*), times class weight, with 0 where a region is left out.
        distributed: Whether "mean" and "sum" go over the regions of all processes, as `SummedLoss` says. With *batch*
            errors would have to be sorted over processes, which nobody does.

    Raises:
        LossConfigError: If an option is none of these, or *distributed* does not go with the others.
    """

    def __init__(
        self,
        *,
        batch: bool = False,
        include_background: bool = True,
        class_weights: Sequence[float] | None = None,
        empty: Empty = "volume",
        mode: Mode = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        reduction: Reduction = "mean",
        distributed: bool = False,
        check_inputs: bool = True,
    ) -> None:
        super().__init__(mode=mode, from_logits=from_logits, ignore_index=ignore_index, check_inputs=check_inputs)
        require_choice("reduction", reduction, REDUCTIONS)
        self.reduction: Reduction = reduction
        self.batch = require_batch(batch, reduction=reduction)
        self.distributed = require_distributed(distributed, reduction=reduction)
        if self.distributed and self.batch:
            msg = (
                "distributed=True with batch=True would sort the errors of all processes together, which lovasz does "
                "not do; leave batch out, or distributed"
            )
            raise LossConfigError(msg)
        self.include_background = require_background(include_background, mode=mode)
        self.class_weights = require_class_weights(class_weights, mode=mode)
        require_choice("empty", empty, EMPTY_MEANS)
        self.empty: Empty = empty

    def check(self, inputs: Inputs) -> None:
        """Refuse fractions in the target.

        Raises:
            LossInputError: Naming the tensor, the values that it holds, and the way out.
        """
        if not inputs.labelled and inputs.target.is_floating_point():
            t = only_where(inputs.counted(), inputs.target)
            if bool(((t != 0) & (t != 1)).any()):
                msg = f"target ({inputs.target.dtype}) holds fractions; this loss compares sets: pass target > 0.5"
                raise LossInputError(msg)

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        with torch.autocast(inputs.pred.device.type, enabled=False):
            p, t, w = self._read(inputs)
            if self.batch:
                p, t, w = (one.transpose(0, 1).flatten(1) for one in (p, t, w))
            present, count = (t * w).sum(-1) > 0, w.sum(-1)
            losses = _sort_and_sum(p, t, w)
            valid = count > 0
            if self.empty == "volume":
                losses = torch.where(present, losses, (p * w).sum(-1) / torch.where(count > 0, count, 1))
            elif self.empty == "skip":
                valid = valid & present
            losses, weights = only_where(valid, losses), valid.to(losses.dtype)
            of_classes = weigh_classes(self, inputs)
            if of_classes is not None:
                losses, weights = only_where(of_classes > 0, losses) * of_classes, weights * of_classes
            return reduce(losses, weights, self.reduction, everywhere=self.distributed).to(working_dtype(inputs))

    def _read(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return probability, target and weight of each voxel, `(B, C, n)`, 0 where nothing counts."""
        dtype = working_dtype(inputs)
        counted = inputs.counted()
        x = only_where(counted, inputs.pred.to(dtype))
        if inputs.labelled:
            classes = torch.arange(x.shape[1], device=x.device).view(1, -1, 1)
            t = only_where(counted, (inputs.target.unsqueeze(1) == classes).to(dtype))
        else:
            t = only_where(counted, inputs.target.to(dtype))
        p = x if not inputs.from_logits else torch.softmax(x, 1) if inputs.softmax else torch.sigmoid(x)
        if counted is None:
            return p, t, torch.ones_like(p)
        w = counted.to(dtype) if inputs.weight is None else only_where(counted, inputs.weight.to(dtype))
        return p, t, w.expand(p.shape)

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        region = "channel of the whole batch" if self.batch else "channel of each sample"
        return "\n".join(
            (
                "Lovász loss = Σ e·(J - J before it), e = |t - p| in falling order, J = 1 - IoU of what came so far",
                f"  {self.explain_inputs()}",
                f"  over the valid voxels of each {region}; reduction {self.reduction}{explain_classes(self)}",
                f"  a region without foreground (empty={self.empty}): {EMPTY_MEANS[self.empty]}",
            )
        )


def _sort_and_sum(p: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """Return the loss of each region of `(..., n)`.

    A voxel of weight w stands for w voxels of the same error, which come one after the other; one of weight 0 for none.
    """
    errors, order = torch.sort((t - p).abs(), dim=-1, descending=True)
    foreground, background = ((one * w).gather(-1, order).to(sum_dtype(p.device)) for one in (t, 1 - t))
    whole = foreground.sum(-1, keepdim=True)
    left, joined = whole - foreground.cumsum(-1), whole + background.cumsum(-1)
    ratios = only_where(joined > 0, 1 - left / torch.where(joined > 0, joined, 1))
    steps = torch.diff(ratios, dim=-1, prepend=torch.zeros_like(ratios[..., :1]))
    return (errors * steps.to(errors.dtype)).sum(-1)
