"""Voxel by voxel: binary cross entropy and focal loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mlc_losses.base import (
    SegmentationLoss,
    describe_input,
    only_where,
    reduce,
    require_reduction,
    working_dtype,
)
from mlc_losses.options import require_number

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.options import Mode, Reduction

__all__ = ["BCELoss"]


class BCELoss(SegmentationLoss):
    """Binary cross entropy, or with *gamma* the focal loss (Lin et al. 2017), of each voxel.

    With `p` the probability and `t` the target of a voxel:

    `-[a·t·(1-p)^gamma·log p + (1-a)·(1-t)·p^gamma·log(1-p)]`, where without *alpha* both `a` and `1-a` are 1

    *gamma* 0 without *alpha* is binary cross entropy, exactly. The formula is linear in `t`: a voxel labelled 0.3 costs
    0.3 of what it would as foreground plus 0.7 of what it would as background.

    *alpha* is the weight of the foreground and `1 - alpha` that of the background, as in Lin: **0.25 weighs the
    foreground a third of the background**. For a rare foreground to count more, give more than 0.5.

    Args:
        gamma: How little easy voxels count, at least 0. At 2 a voxel with the right class at 0.9 counts 100 times less.
        alpha: The weight of the foreground, from 0 to 1, or `None` for no weights.
        label_smoothing: `e` in `t·(1-e) + e/2`, from 0 to 1.
        mode: "binary" for one channel, "multilabel" for several that may overlap.
        from_logits: Whether *pred* is logits, or probabilities. Prefer logits: a probability within one rounding error
            of 0 or 1 (1.2e-7 in float32) has lost how wrong it is, so the loss stops there at 15.9 with no gradient.
        reduction: "mean" over the valid voxels of all channels, "sum", or "none" for the shape of *pred* with 0 where
            a voxel is left out.
        check_inputs: Whether every call checks the values of its tensors; see `forward`.

    Raises:
        LossConfigError: If an option is none of these.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.0,
        alpha: float | None = None,
        label_smoothing: float = 0.0,
        mode: Mode = "binary",
        from_logits: bool = True,
        reduction: Reduction = "mean",
        check_inputs: bool = True,
    ) -> None:
        super().__init__(mode=mode, from_logits=from_logits, check_inputs=check_inputs)
        self.gamma = require_number("gamma", gamma)
        self.alpha = None if alpha is None else require_number("alpha", alpha, high=1.0)
        self.label_smoothing = require_number("label_smoothing", label_smoothing, high=1.0)
        self.reduction = require_reduction(reduction)

    def compute(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss of *pred* against *target*; both are known to be good."""
        dtype = working_dtype(pred, target)
        x = only_where(mask, pred.to(dtype))
        t = only_where(mask, target.to(dtype))
        if self.label_smoothing:
            t = t * (1 - self.label_smoothing) + self.label_smoothing / 2
        costs = only_where(mask, self._cost(x, t))
        everywhere = torch.ones((), dtype=torch.bool, device=pred.device) if mask is None else mask
        return reduce(costs, everywhere.expand(pred.shape).sum(), self.reduction)

    def _cost(self, x: Tensor, t: Tensor) -> Tensor:
        if self.from_logits and self.gamma == 0 and self.alpha is None:
            return functional.binary_cross_entropy_with_logits(x, t, reduction="none")
        if self.from_logits:
            log_p, log_q = functional.logsigmoid(x), functional.logsigmoid(-x)
        else:
            least = torch.finfo(x.dtype).eps
            p = x.clamp(least, 1 - least)
            log_p, log_q = torch.log(p), torch.log1p(-p)
        foreground, background = -t * log_p, (t - 1) * log_q
        if self.gamma:
            # exp(gamma·log q), not q**gamma: where q is 0 the derivative of the power is infinite for a gamma below 1
            foreground = foreground * torch.exp(self.gamma * log_q)
            background = background * torch.exp(self.gamma * log_p)
        if self.alpha is not None:
            foreground, background = self.alpha * foreground, (1 - self.alpha) * background
        return foreground + background

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        easy = ("·(1-p)^gamma", "·p^gamma") if self.gamma else ("", "")
        weigh = ("a·", "(1-a)·") if self.alpha is not None else ("", "")
        name = "Focal" if self.gamma else "Binary cross entropy"
        numbers = [f"gamma = {self.gamma:g}"] if self.gamma else []
        if self.alpha is not None:
            numbers.append(f"a = {self.alpha:g}: foreground weighs {self.alpha:g}, background {1 - self.alpha:g}")
        smoothed = f"t·{1 - self.label_smoothing:g} + {self.label_smoothing / 2:g}"
        if self.label_smoothing:
            numbers.append(f"t smoothed to {smoothed}")
        lines = [
            f"{name} loss = -[{weigh[0]}t{easy[0]}·log p + {weigh[1]}(1-t){easy[1]}·log(1-p)]",
            *([f"  {', '.join(numbers)}"] if numbers else []),
            f"  {describe_input(self)}",
            f"  over the valid voxels of all samples and channels; reduction {self.reduction}",
        ]
        return "\n".join(lines)
