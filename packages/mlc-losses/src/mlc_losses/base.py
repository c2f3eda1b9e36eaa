"""What our losses share: options about the tensors, checks, and one way from tensors to a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mlc_losses.checks import check_form, check_values
from mlc_losses.errors import LossInputError
from mlc_losses.inputs import read_inputs, working_dtype
from mlc_losses.options import MODES, REDUCTIONS, require_choice, require_distributed, require_flag, require_index
from mlc_losses.summation import sum_terms
from mlc_losses.terms import part_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Mode, Reduction
    from mlc_losses.terms import Term

__all__ = ["SegmentationLoss", "SummedLoss"]


class SegmentationLoss(nn.Module):
    """A loss over the voxels of `(B, C, *spatial)`.

    Args:
        mode: "binary" for one channel, "multilabel" for channels that are judged each by itself and may overlap,
            "multiclass" for channels that share one probability.
        from_logits: Whether *pred* is logits, or probabilities.
        ignore_index: Target value of voxels that do not count. One of the model's own classes too: its voxels do not
            count and it is no region, but its channel stays part of the softmax. Of a target that holds probabilities
            it is the value in any channel of such a voxel, and no class.
        check_inputs: Whether every call checks the values of its tensors. On an accelerator that makes the host wait
            for the device. Shapes, dtypes and devices are always checked; under `torch.compile` values never are.
            A class number that is none of the model's is then a voxel of no class: wrong in every region, and at no
            cost for cross entropy. What other values out of range come to is nobody's promise.

    Raises:
        LossConfigError: If an option is none of these.
    """

    def __init__(
        self,
        *,
        mode: Mode = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        check_inputs: bool = True,
    ) -> None:
        super().__init__()
        require_choice("mode", mode, MODES)
        self.mode: Mode = mode
        self.from_logits = require_flag("from_logits", from_logits)
        self.ignore_index = require_index("ignore_index", ignore_index)
        self.check_inputs = require_flag("check_inputs", check_inputs)

    def forward(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of *pred* against *target* over the voxels where *mask* is true, weighed by *weight*.

        Args:
            pred: `(B, C, *spatial)`, any floating dtype. Sums run in float32 or wider, and so is the result.
            target: The shape of *pred*: bool or integers 0 and 1, or floating point from 0 to 1. With
                mode="multiclass" class numbers `(B, *spatial)` or `(B, 1, *spatial)` of an integer dtype, or the shape
                of *pred* with probabilities that add up to 1.
            mask: `(B, 1, *spatial)` or the shape of *target*, bool, true where a voxel counts. What it leaves out may
                hold anything, NaN too. Where nothing is left the loss is 0, with a graph and a gradient of 0.
            weight: The same shapes, floating point, at least 0: a voxel of weight 2 counts as two such voxels, one of
                weight 0 not at all.

        Raises:
            LossInputError: If a shape, dtype, device or value would give a wrong loss.
        """
        return self.evaluate(self.read(pred, target, mask=mask, weight=weight))

    def read(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None) -> Inputs:
        """Return the tensors as `Inputs`, checked.

        Raises:
            LossInputError: As `forward`.
        """
        check_form(pred, target, mask, weight, mode=self.mode)
        inputs = read_inputs(
            pred,
            target,
            mask,
            weight,
            mode=self.mode,
            from_logits=self.from_logits,
            ignore_index=self.ignore_index,
        )
        ignored = inputs.ignore_index
        if inputs.softmax and not inputs.labelled and ignored is not None and 0 <= ignored < pred.shape[1]:
            msg = f"ignore_index={ignored} is one of the classes, but target holds probabilities; give a mask instead"
            raise LossInputError(msg)
        if self.check_inputs and not torch.compiler.is_compiling():
            inputs = check_values(inputs, prove_hard=part_sides(self.terms))
            self.check(inputs)
        return inputs

    @property
    def terms(self) -> Sequence[Term]:
        """What it needs summed, if it follows from sums."""
        return ()

    def check(self, inputs: Inputs) -> None:
        """Refuse what all losses take and this one does not; by default nothing.

        Raises:
            LossInputError: Naming the tensor, the values that it holds, and the way out.
        """

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the formula in use, for who prints a model."""
        return self.explain().splitlines()[0]

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        raise NotImplementedError

    def explain_inputs(self) -> str:
        """Say what *pred* is read as and what is left out, for `explain`."""
        activation = "softmax" if self.mode == "multiclass" else "sigmoid"
        ignored = "" if self.ignore_index is None else f", voxels with target {self.ignore_index} do not count"
        return f"p = {f'{activation}(pred)' if self.from_logits else 'pred'}, t = target, mode {self.mode}{ignored}"


class SummedLoss(SegmentationLoss):
    """A loss that follows from sums over voxels; see `mlc_losses.terms`.

    Args:
        reduction: "mean" over what counts, "sum", "sample" for one mean for each sample `(B,)`, or "none".
        distributed: Whether "mean" and "sum" go over all processes of the default group, as if one process had the
            whole batch. Every process must then call the loss together, and the gradients must be averaged over
            processes, as DistributedDataParallel does. Without a group it is the same as off.

    Raises:
        LossConfigError: If an option is none of these.
    """

    term: Term
    """What it needs summed."""

    def __init__(
        self,
        *,
        reduction: Reduction = "mean",
        distributed: bool = False,
        mode: Mode = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        check_inputs: bool = True,
    ) -> None:
        super().__init__(mode=mode, from_logits=from_logits, ignore_index=ignore_index, check_inputs=check_inputs)
        require_choice("reduction", reduction, REDUCTIONS)
        self.reduction: Reduction = reduction
        self.distributed = require_distributed(distributed, reduction=reduction)

    @property
    def terms(self) -> Sequence[Term]:
        """What it needs summed."""
        return (self.term,)

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        with torch.autocast(inputs.pred.device.type, enabled=False):  # its half precision is not for sums
            (sums,) = sum_terms(inputs, (self.term,))
            return self.judge(sums, inputs).to(working_dtype(inputs))

    def judge(self, sums: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss that follows from the *sums* of `term`, as wide as they are."""
        raise NotImplementedError
