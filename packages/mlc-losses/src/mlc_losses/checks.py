"""The refusal of tensors that would give a number, and the wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.errors import LossInputError

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.options import Mode

__all__ = ["check_form", "check_values"]

SLACK = 1e-4
"""How far resampled masks and averaged probabilities may stand over the edges of [0, 1] by rounding."""


def check_form(pred: Tensor, target: Tensor, mask: Tensor | None, *, mode: Mode) -> None:
    """Check shapes, dtypes and devices; reads no values, so it costs nothing on any device.

    Raises:
        LossInputError: Naming the tensor, what it is, and what it should be.
    """
    shape = tuple(pred.shape)
    if not pred.is_floating_point():
        msg = f"pred is {pred.dtype}; give the model's floating-point output, not labels"
        raise LossInputError(msg)
    if pred.dim() < 3:
        msg = f"pred is {shape}; give (batch, channels, *spatial) with at least one spatial axis"
        raise LossInputError(msg)
    if mode == "binary" and shape[1] != 1:
        msg = f"pred is {shape}, {shape[1]} channels; mode='binary' takes one, mode='multilabel' one per label"
        raise LossInputError(msg)
    if tuple(target.shape) != shape:
        hint = _without_channel(target, pred)
        msg = f"target is {tuple(target.shape)} but pred is {shape}; losses do not broadcast{hint}"
        raise LossInputError(msg)
    if target.is_complex():
        msg = f"target is {target.dtype}; give bool, integers or floating point"
        raise LossInputError(msg)
    if target.device != pred.device:
        msg = f"target is on {target.device} but pred is on {pred.device}; pass target.to(pred.device)"
        raise LossInputError(msg)
    if mask is not None:
        _check_mask(pred, mask)


def _check_mask(pred: Tensor, mask: Tensor) -> None:
    shape = tuple(pred.shape)
    wide = (shape[0], 1, *shape[2:])
    if tuple(mask.shape) not in {shape, wide}:
        msg = f"mask is {tuple(mask.shape)}; give {wide}, or {shape} as pred{_without_channel(mask, pred)}"
        raise LossInputError(msg)
    if mask.dtype != torch.bool:
        msg = f"mask is {mask.dtype}; give bool, true where a voxel counts: mask > 0"
        raise LossInputError(msg)
    if mask.device != pred.device:
        msg = f"mask is on {mask.device} but pred is on {pred.device}; pass mask.to(pred.device)"
        raise LossInputError(msg)


def _without_channel(one: Tensor, pred: Tensor) -> str:
    return "; its channel axis is missing: .unsqueeze(1)" if one.shape == pred.shape[:1] + pred.shape[2:] else ""


def check_values(pred: Tensor, target: Tensor, mask: Tensor | None, *, from_logits: bool) -> None:
    """Check that masks hold 0 to 1, and that probabilities do; looks only where *mask* says that it counts.

    One pass over the target, and one over *pred* where it is probabilities. On an accelerator each makes the host
    wait for the device, which is why it can be turned off.

    Raises:
        LossInputError: Naming the tensor, the values that it holds, and the way out.
    """
    if target.dtype != torch.bool:
        low, high = _extremes(target, mask)
        if not (low >= -SLACK and high <= 1 + SLACK):
            hint = _way_out(target, low, high)
            msg = f"target ({target.dtype}) runs from {low:g} to {high:g}; a mask holds 0 to 1: {hint}"
            raise LossInputError(msg)
    if not from_logits:
        low, high = _extremes(pred, mask)
        if not (low >= -SLACK and high <= 1 + SLACK):
            hint = "apply torch.sigmoid, or pass from_logits=True"
            msg = f"pred runs from {low:g} to {high:g}; from_logits=False takes probabilities: {hint}"
            raise LossInputError(msg)


def _extremes(values: Tensor, mask: Tensor | None) -> tuple[float, float]:
    """Return the least and the greatest of *values*, NaN if there is one; 0 stands for what is left out."""
    if not values.numel():
        return 0.0, 0.0
    values = values.detach()
    low, high = torch.aminmax(values if mask is None else torch.where(mask, values, 0))
    low, high = torch.stack((low, high)).tolist()  # together: one wait for the device, not two
    return float(low), float(high)


def _way_out(target: Tensor, low: float, high: float) -> str:
    if low == 0 and high == 255:
        return "pass target > 0, or target / 255 if it is soft"
    if low >= 0 and not target.is_floating_point():
        return "pass one channel per class, not class numbers"
    return "look for the preprocessing that made it, or mask those voxels out"
