"""What our losses share: how inputs are checked and read, and how elements become one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mlc_losses.checks import check_form, check_values
from mlc_losses.options import MODES, REDUCTIONS, require_choice, require_flag

if TYPE_CHECKING:
    from mlc_losses.options import Mode, Reduction

__all__ = ["SegmentationLoss", "describe_input", "only_where", "reduce", "require_reduction", "working_dtype"]


class SegmentationLoss(nn.Module):
    """A loss over the voxels of `(B, C, *spatial)`, one channel per label.

    Args:
        mode: "binary" for one channel, "multilabel" for channels that are judged each by itself and may overlap.
        from_logits: Whether *pred* is logits, or probabilities.
        check_inputs: Whether every call checks the values of its tensors. On an accelerator that makes the host wait
            for the device, and `torch.compile(fullgraph=True)` cannot trace it. Shapes, dtypes and devices are always
            checked.

    Raises:
        LossConfigError: If an option is none of these.
    """

    def __init__(self, *, mode: Mode = "binary", from_logits: bool = True, check_inputs: bool = True) -> None:
        super().__init__()
        require_choice("mode", mode, MODES)
        self.mode: Mode = mode
        self.from_logits = require_flag("from_logits", from_logits)
        self.check_inputs = require_flag("check_inputs", check_inputs)

    def forward(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss of *pred* against *target* over the voxels where *mask* is true.

        Args:
            pred: `(B, C, *spatial)`, any floating dtype. Sums run in float32 or wider, and so is the result.
            target: The shape of *pred*: bool or integers 0 and 1, or floating point from 0 to 1.
            mask: `(B, 1, *spatial)` or the shape of *pred*, bool, true where a voxel counts. What it leaves out may
                hold anything, NaN too. Where nothing is left the loss is 0, with a graph and a gradient of 0.

        Raises:
            LossInputError: If a shape, dtype, device or value would give a wrong loss.
        """
        self.check(pred, target, mask=mask)
        return self.compute(pred, target, mask=mask)

    def check(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> None:
        """Refuse tensors that would give a wrong loss.

        Raises:
            LossInputError: As `forward`.
        """
        check_form(pred, target, mask, mode=self.mode)
        if self.check_inputs:
            check_values(pred, target, mask, from_logits=self.from_logits)

    def compute(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Do what `forward` does with tensors that are known to be good."""
        raise NotImplementedError

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        raise NotImplementedError


def working_dtype(pred: Tensor, target: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 where either tensor is.

    Sums of half a million float16 numbers overflow; a float64 caller wants float64.
    """
    wide = torch.promote_types(pred.dtype, torch.float32)
    return torch.promote_types(wide, target.dtype) if target.is_floating_point() else wide


def only_where(mask: Tensor | None, values: Tensor, other: float = 0.0) -> Tensor:
    """Return *values* with *other* where *mask* is false.

    Chosen, not multiplied: 0 * NaN is NaN, in the value and again in the gradient.
    """
    return values if mask is None else torch.where(mask, values, other)


def reduce(elements: Tensor, counts: Tensor, reduction: Reduction) -> Tensor:
    """Make one number of *elements*: their sum, or their sum over how many *counts* says are valid.

    *elements* are 0 where they are not valid. The count is always a tensor: to divide by a Python number is to
    multiply by its inverse on some devices, and a mask of all ones would then change the last bit.
    """
    if reduction == "none":
        return elements
    total = elements.sum()
    return total if reduction == "sum" else total / counts.clamp_min(1)


def require_reduction(reduction: Reduction) -> Reduction:
    """Return *reduction* if there is such a one.

    Raises:
        LossConfigError: If there is not.
    """
    require_choice("reduction", reduction, REDUCTIONS)
    return reduction


def describe_input(loss: SegmentationLoss) -> str:
    """Say what *loss* reads *pred* as, for `explain`."""
    return f"p = {'sigmoid(pred)' if loss.from_logits else 'pred'}, t = target, mode {loss.mode}"
