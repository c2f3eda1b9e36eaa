"""Voxel by voxel, each channel by itself: binary cross entropy and focal loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from mlc_losses.base import SummedLoss
from mlc_losses.classes import explain_classes, explain_smoothing, weigh_classes
from mlc_losses.errors import LossConfigError
from mlc_losses.inputs import only_where
from mlc_losses.options import require_background, require_choice, require_class_weights, require_number
from mlc_losses.reduction import add_up_processes, reduce
from mlc_losses.summation import cost_voxels, sum_terms
from mlc_losses.terms import VoxelTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from typing_extensions import Unpack

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import LossOptions

__all__ = ["BCELoss"]


class BCELoss(SummedLoss):
    """Binary cross entropy, or with *gamma* the focal loss (Lin et al. 2017), of each voxel.

    With `p` the probability and `t` the target of a voxel:

    `-[a·t·(1-p)^gamma·log p + (1-a)·(1-t)·p^gamma·log(1-p)]`, where without *alpha* both `a` and `1-a` are 1

    *gamma* 0 without *alpha* is binary cross entropy, exactly. The formula is linear in `t`: a voxel labelled 0.3 costs
    0.3 of what it would as foreground plus 0.7 of what it would as background.

    *alpha* is the weight of the foreground and `1 - alpha` that of the background, as in Lin: **0.25 weighs the
    foreground a third of the background**. For a rare foreground to count more, give more than 0.5, or "balanced": of
    n voxels of a channel in the batch, `a` is then n over twice those of the foreground, and n over twice those of the
    background stands for `1-a`, as scikit-learn balances classes. Both sides weigh the same, half of what they cost;
    with *label_smoothing* they are counted after it.

    Args:
        gamma: How little easy voxels count, at least 0. At 2 a voxel with the right class at 0.9 counts 100 times less.
        alpha: The weight of the foreground, from 0 to 1, "balanced", or `None` for no weights.
        label_smoothing: `e` in `t·(1-e) + e/2`, from 0 to 1.
        include_background: Whether channel 0 counts. Of several channels one can be left out, of one none.
        class_weights: How much each channel counts; only ratios matter in a mean.
        options: What every loss takes; see `SummedLoss`. *mode* is "binary" or "multilabel". Prefer logits: a
            probability within one rounding error of 0 or 1 (1.2e-7 in float32) has lost how wrong it is, so the loss
            stops there at 15.9 with no gradient. *reduction* "mean" is over the valid voxels of all channels, "none"
            has the shape of *pred*, with 0 where a voxel is left out.

    Raises:
        LossConfigError: If an option cannot be followed.
    """

    term: VoxelTerm

    def __init__(
        self,
        *,
        gamma: float = 0.0,
        alpha: float | Literal["balanced"] | None = None,
        label_smoothing: float = 0.0,
        include_background: bool = True,
        class_weights: Sequence[float] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        if self.mode == "multiclass":
            msg = "this loss judges each channel by itself; for mode='multiclass' give cross_entropy, with gamma focal"
            raise LossConfigError(msg)
        self.alpha = _require_alpha(alpha)
        self.include_background = require_background(include_background, mode=self.mode)
        self.class_weights = require_class_weights(class_weights, mode=self.mode)
        self.term = VoxelTerm(
            gamma=require_number("gamma", gamma),
            smoothing=require_number("label_smoothing", label_smoothing, high=1.0),
            by_class=alpha is not None,
        )

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        if self.reduction != "none":
            return super().evaluate(inputs)
        costs = cost_voxels(inputs, self.term)  # (B, K, C, n)
        if self.alpha is not None:
            sums = sum_terms(inputs._replace(pred=inputs.pred.detach()), (self.term,))[0]
            sides = self._weigh_sides(sums[1].reshape(*inputs.pred.shape[:2], 2))  # (2,) or (C, 2)
            costs = costs * sides.to(costs.dtype).expand(costs.shape[2], 2).T[..., None]
        costs, of_classes = costs.sum(1), weigh_classes(self, inputs)
        if of_classes is not None:
            costs = only_where(of_classes[:, None] > 0, costs) * of_classes[:, None].to(costs.dtype)
        return costs.reshape(*inputs.pred.shape[:2], *inputs.spatial)

    def judge(self, sums: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss that follows from the *sums* of `term`."""
        costs, counts = sums[0], sums.detach()[1]  # counts follow from the target
        if self.alpha is not None:
            costs, counts = (one.reshape(*inputs.pred.shape[:2], 2) for one in (costs, counts))
            costs, counts = (costs * self._weigh_sides(counts)).sum(-1), counts.sum(-1)
        of_classes = weigh_classes(self, inputs)
        if of_classes is not None:
            costs, counts = only_where(of_classes > 0, costs) * of_classes, counts * of_classes
        return reduce(costs, counts, self.reduction, everywhere=self.distributed)

    def _weigh_sides(self, counts: Tensor) -> Tensor:
        """Return the weights of background and foreground, `(2,)` or `(C, 2)`, given *counts* of both, `(B, C, 2)`."""
        if isinstance(self.alpha, float):
            return torch.tensor([1 - self.alpha, self.alpha], dtype=counts.dtype, device=counts.device)
        of_batch = counts.sum(0)
        of_batch = add_up_processes(of_batch) if self.distributed else of_batch
        total, smoothing = of_batch.sum(-1, keepdim=True), self.term.smoothing
        of_batch = of_batch * (1 - smoothing) + total * smoothing / 2
        return total / (2 * torch.where(of_batch > 0, of_batch, torch.inf))

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        gamma, alpha = self.term.gamma, self.alpha
        easy = ("·(1-p)^gamma", "·p^gamma") if gamma else ("", "")
        weigh = ("a·", "(1-a)·") if alpha is not None else ("", "")
        numbers = [f"gamma = {gamma:g}"] if gamma else []
        if alpha == "balanced":
            numbers.append("a and 1-a = n over twice the voxels of that side in the batch, so that both weigh the same")
        elif alpha is not None:
            numbers.append(f"a = {alpha:g}: foreground weighs {alpha:g}, background {1 - alpha:g}")
        name = "Focal" if gamma else "Binary cross entropy"
        smoothed = explain_smoothing(self.term.smoothing).removeprefix(", ").replace("K", "2")
        numbers += [smoothed] if smoothed else []
        lines = [
            f"{name} loss = -[{weigh[0]}t{easy[0]}·log p + {weigh[1]}(1-t){easy[1]}·log(1-p)]",
            *([f"  {', '.join(numbers)}"] if numbers else []),
            f"  {self.explain_inputs()}",
            f"  over the valid voxels of all samples and channels; reduction {self.reduction}{explain_classes(self)}",
        ]
        return "\n".join(lines)


def _require_alpha(value: object) -> float | Literal["balanced"] | None:
    if isinstance(value, str):
        require_choice("alpha", value, ("balanced",))
        return "balanced"
    return None if value is None else require_number("alpha", value, high=1.0)
