"""Voxel by voxel, channels that share one probability: cross entropy and focal loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_losses.base import SummedLoss
from mlc_losses.classes import explain_smoothing, weigh_classes
from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_class_weights, require_number
from mlc_losses.reduction import reduce
from mlc_losses.summation import cost_voxels
from mlc_losses.terms import VoxelTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from typing_extensions import Unpack

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import LossOptions

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(SummedLoss):
    """Cross entropy of a softmax, or with *gamma* the focal loss of a softmax, of each voxel.

    With `p` the probabilities and `t` the target of a voxel: `-Σ_c v_c·t_c·(1-p_c)^gamma·log p_c`

    *gamma* 0 is cross entropy, exactly, with the same denominator: the mean is over `Σ v_c·t_c`, so over voxels where
    no class is weighed, and never over voxels times classes. Where everything is ignored it is 0.

    Args:
        gamma: How little easy voxels count, at least 0. At 2 a voxel with the right class at 0.9 counts 100 times less.
        label_smoothing: `e` in `t·(1-e) + e/C`, from 0 to 1; the mean is over the target as it was given.
        class_weights: `v` above; only ratios matter in a mean. A class of weight 0 is not learnt, as a background that
            is left out would be.
        options: What every loss takes; see `SummedLoss`. *mode* is "multiclass" and need not be said. Prefer logits: a
            probability below one rounding error (1.2e-7 in float32) counts as that, so the loss stops there at 15.9.
            *reduction* "none" gives `(B, *spatial)`, with 0 where a voxel is left out.

    Raises:
        LossConfigError: If an option cannot be followed.
    """

    term: VoxelTerm
    include_background = True

    def __init__(
        self,
        *,
        gamma: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        if options.setdefault("mode", "multiclass") != "multiclass":
            msg = f"cross entropy is of channels that share one probability; mode={options['mode']!r} wants bce"
            raise LossConfigError(msg)
        super().__init__(**options)
        self.class_weights = require_class_weights(class_weights, mode=self.mode)
        self.term = VoxelTerm(
            gamma=require_number("gamma", gamma),
            smoothing=require_number("label_smoothing", label_smoothing, high=1.0),
            by_class=class_weights is not None,
        )

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        if self.reduction != "none":
            return super().evaluate(inputs)
        costs = cost_voxels(inputs, self.term)  # (B, C, n)
        weights = self._weigh(inputs)
        costs = costs if weights is None else costs * weights[:, None].to(costs.dtype)
        return costs.sum(1).reshape(costs.shape[0], *inputs.spatial)

    def judge(self, sums: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss that follows from the *sums* of `term`."""
        costs, counts = sums.unbind(0)  # (B, 1 or C)
        weights = self._weigh(inputs)
        if weights is not None:
            costs, counts = costs * weights, counts * weights
        return reduce(costs, counts, self.reduction, everywhere=self.distributed)

    def _weigh(self, inputs: Inputs) -> Tensor | None:
        weigh_classes(self, inputs)  # refuses weights that leave nothing but the ignored class
        # whose voxels are left out already, and whose channel keeps its part of what is smoothed
        return weigh_classes(self, inputs._replace(ignore_index=None))

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        gamma = self.term.gamma
        weigh = "" if self.class_weights is None else "v·"
        numbers = [f"gamma = {gamma:g}"] if gamma else []
        if self.class_weights is not None:
            numbers.append(f"v = {' : '.join(f'{one:g}' for one in self.class_weights)}")
        smoothed = explain_smoothing(self.term.smoothing).removeprefix(", ")
        numbers += [smoothed] if smoothed else []
        lines = [
            f"{'Focal' if gamma else 'Cross entropy'} loss = -Σ {weigh}t{'·(1-p)^gamma' if gamma else ''}·log p",
            *([f"  {', '.join(numbers)}"] if numbers else []),
            f"  {self.explain_inputs()}",
            f"  over the valid voxels of all samples, Σ {weigh}t of them; reduction {self.reduction}",
        ]
        return "\n".join(lines)
