"""The refusal of tensors that would give a number, and the wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.errors import LossInputError
from mlc_losses.inputs import only_where, working_dtype
from mlc_losses.summation.blocks import block_size, cut
from mlc_losses.summation.focal import is_hard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Mode

__all__ = ["check_form", "check_values"]

SLACK = 1e-4
"""How far resampled masks and averaged probabilities may stand over the edges of [0, 1] by rounding."""

SUM_SLACK = 1e-2
"""How far the probabilities of a voxel may be from adding up to 1, which is what bfloat16 allows."""

NEAR = 0.05
"""How near to 0 and to 1 a prediction comes that is taken for probabilities."""

GREATEST = 1e12
"""How much a voxel may weigh, so that sums of billions stay finite in float32."""

SAMPLE = 4096
"""Values that are looked at first: logits show themselves among so many."""

FEW, FEW_VOXELS = 256, 8
"""Of how many values of a sigmoid, or voxels of a softmax, it can be told whether they are probabilities."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_form(pred: Tensor, target: Tensor, mask: Tensor | None, weight: Tensor | None, *, mode: Mode) -> None:
    """Check shapes, dtypes and devices; reads no values, so it costs nothing on any device.

    Raises:
        LossInputError: Naming the tensor, what it is, and what it should be.
    """
    given: dict[str, object] = {"pred": pred, "target": target}
    given |= {name: one for name, one in (("mask", mask), ("weight", weight)) if one is not None}
    for name, what in given.items():
        if not isinstance(what, torch.Tensor):
            raise LossInputError(_explain_type(name, what))
    _check_pred(pred, mode)
    if target.is_complex():
        msg = f"target is {target.dtype}; give bool, integers or floating point"
        raise LossInputError(msg)
    _check_width("target", target)
    _check_device("target", target, pred)
    if target.requires_grad:
        msg = "target requires a gradient, but losses differentiate pred alone; pass target.detach()"
        raise LossInputError(msg)
    _check_target_shape(pred, target, mode)
    for name, one in (("mask", mask), ("weight", weight)):
        if one is not None:
            _check_voxels(name, one, pred, mode)
    if mask is not None and mask.dtype != torch.bool:
        hint = "true where a voxel counts: mask > 0, or pass it as weight"
        msg = f"mask is {mask.dtype}; give bool, {hint}"
        raise LossInputError(msg)
    if weight is not None and (not weight.is_floating_point() or weight.requires_grad):
        what = (
            "requires a gradient; pass weight.detach()" if weight.requires_grad else f"is {weight.dtype}; give floats"
        )
        msg = f"weight {what}"
        raise LossInputError(msg)
    if weight is not None:
        _check_width("weight", weight)


def _check_width(name: str, one: Tensor) -> None:
    if one.is_floating_point() and one.dtype not in FLOATS:
        msg = f"{name} is {one.dtype}, in which torch does not compute; pass {name}.float()"
        raise LossInputError(msg)


def _explain_type(name: str, one: object) -> str:
    if isinstance(one, (list, tuple)):
        hint = "; a loss of several outputs is made with deep_supervision=True" if name == "pred" else ""
        return f"{name} is a {type(one).__name__} of {len(one)}, not a tensor{hint}"
    return f"{name} is a {type(one).__name__}, not a torch.Tensor"


def _check_pred(pred: Tensor, mode: Mode) -> None:
    shape = tuple(pred.shape)
    if not pred.is_floating_point():
        msg = f"pred is {pred.dtype}; give the model's floating-point output, not labels"
        raise LossInputError(msg)
    _check_width("pred", pred)
    if pred.dim() < 3:
        msg = f"pred is {shape}; give (batch, channels, *spatial) with at least one spatial axis"
        raise LossInputError(msg)
    if mode == "binary" and shape[1] != 1:
        msg = (
            f"pred is {shape}, {shape[1]} channels; mode='binary' takes one, mode='multilabel' one for each label, "
            "mode='multiclass' one for each class of which a voxel has one"
        )
        raise LossInputError(msg)
    if mode == "multiclass" and shape[1] < 2:
        msg = f"pred is {shape}, {shape[1]} channel; a softmax over one channel is 1 everywhere: give mode='binary'"
        raise LossInputError(msg)
    if not shape[1]:
        msg = f"pred is {shape}, no channels; give one for each label"
        raise LossInputError(msg)


def _check_device(name: str, one: Tensor, pred: Tensor) -> None:
    if one.device != pred.device:
        msg = f"{name} is on {one.device} but pred is on {pred.device}; pass {name}.to(pred.device)"
        raise LossInputError(msg)


def _check_target_shape(pred: Tensor, target: Tensor, mode: Mode) -> None:
    shape, found = tuple(pred.shape), tuple(target.shape)
    if found == shape:
        return
    if mode != "multiclass":
        msg = f"target is {found} but pred is {shape}; losses do not broadcast{_without_channel(target, pred)}"
        raise LossInputError(msg)
    labels = (shape[:1] + shape[2:], (shape[0], 1, *shape[2:]))
    if found not in labels:
        msg = f"target is {found} but pred is {shape}; give class numbers {labels[0]}, or probabilities as pred"
        raise LossInputError(msg)
    if target.is_floating_point() or target.dtype == torch.bool:
        msg = f"target {found} is {target.dtype}; class numbers are integers: pass target.long()"
        raise LossInputError(msg)


def _check_voxels(name: str, one: Tensor, pred: Tensor, mode: Mode) -> None:
    shape, found = tuple(pred.shape), tuple(one.shape)
    wide = (shape[0], 1, *shape[2:])
    allowed = (wide, shape[:1] + shape[2:]) if mode == "multiclass" else (wide, shape)
    if found not in allowed:
        hint = "" if mode == "multiclass" else _without_channel(one, pred)
        msg = f"{name} is {found}; give {' or '.join(map(str, dict.fromkeys(allowed)))}{hint}"
        raise LossInputError(msg)
    _check_device(name, one, pred)


def _without_channel(one: Tensor, pred: Tensor) -> str:
    return "; its channel axis is missing: .unsqueeze(1)" if one.shape == pred.shape[:1] + pred.shape[2:] else ""


def check_values(inputs: Inputs, *, prove_hard: bool = False) -> Inputs:
    """Check that targets hold what they should, and that predictions are logits, or probabilities, as said.

    Returns *inputs* with what that proves of the target: that it holds classes, or with *prove_hard* 0 and 1 alone.

    One pass over the target, and one over the prediction where it is probabilities, or looks as if it were; looks only
    at what counts. On an accelerator each makes the host wait for the device, which is why it can be turned off.

    Raises:
        LossInputError: Naming the tensor, the values that it holds, and the way out.
    """
    if not inputs.pred.numel():
        return inputs
    if inputs.weight is not None:
        _check_weight(inputs, inputs.weight)
    if inputs.labelled:
        _check_labels(inputs)
        inputs = inputs._replace(hard=True)
    elif prove_hard and inputs.target.is_floating_point() and is_hard(inputs):
        inputs = inputs._replace(hard=True)  # which is in range, too
    elif inputs.target.dtype != torch.bool:
        _check_channels(inputs)
    if inputs.softmax and not inputs.labelled:
        _check_adds_up("target", inputs, inputs.target)
    if inputs.from_logits:
        _check_logits(inputs)
    else:
        _check_probabilities(inputs)
    return inputs


def _check_weight(inputs: Inputs, weight: Tensor) -> None:
    weight = weight.to(working_dtype(inputs))
    low, high = _extremes(weight)
    if low >= 0 and high <= GREATEST:
        return
    counted = inputs._replace(weight=None).counted()
    low, high = _extremes(weight if counted is None else torch.where(counted, weight, 0))
    if not (low >= 0 and high <= GREATEST):
        msg = f"weight runs from {low:g} to {high:g}; give numbers from 0 to {GREATEST:g}, best around 1"
        raise LossInputError(msg)


def _check_labels(inputs: Inputs) -> None:
    low, high = _extremes(inputs.target)
    classes = inputs.pred.shape[1]
    if low >= 0 and high < classes:
        return
    low, high = _extremes_of_what_counts(inputs, inputs.target.unsqueeze(1))
    if not (low >= 0 and high < classes):
        if low == 0 and high == 255 and inputs.ignore_index is None:
            hint = "pass ignore_index=255 if that is what nobody labelled, or target > 0 if this is a mask"
        elif inputs.ignore_index is None:
            hint = "pass ignore_index for the label of what does not count, or give pred one channel for each class"
        else:
            hint = "give pred one channel for each class"
        msg = f"target holds class numbers from {low:g} to {high:g}, but pred has channels 0 to {classes - 1}; {hint}"
        raise LossInputError(msg)


def _check_channels(inputs: Inputs) -> None:
    low, high = _extremes(inputs.target)
    if not (low >= -SLACK and high <= 1 + SLACK) and inputs.counted() is not None:
        low, high = _extremes_of_what_counts(inputs, inputs.target)
    if not (low >= -SLACK and high <= 1 + SLACK):
        hint = _way_out(inputs.target, low, high)
        msg = f"target ({inputs.target.dtype}) runs from {low:g} to {high:g}; a mask holds 0 to 1: {hint}"
        raise LossInputError(msg)


def _check_probabilities(inputs: Inputs) -> None:
    low, high = _extremes_of_what_counts(inputs, inputs.pred)
    if not (low >= -SLACK and high <= 1 + SLACK):
        activation = "softmax" if inputs.softmax else "sigmoid"
        hint = f"apply torch.{activation}, or pass from_logits=True"
        msg = f"pred runs from {low:g} to {high:g}; from_logits=False takes probabilities: {hint}"
        raise LossInputError(msg)
    if inputs.softmax:
        _check_adds_up("pred", inputs, inputs.pred)


def _check_logits(inputs: Inputs) -> None:
    """Refuse a prediction that went through its activation already.

    That is one from 0 to 1 whose channels add up to 1 in every voxel, of 8 or more that are not all alike; or with a
    sigmoid one of 256 values or more that comes as near as 0.05 to both ends. Logits of a fresh network may well lie
    between 0 and 1 too, which is why that alone says nothing: probabilities from 0.2 to 0.9 pass for logits, and logits
    drawn from 0 to 1 for probabilities.
    """
    few = inputs.pred.detach().reshape(-1)[:SAMPLE]
    if few.numel() < (FEW_VOXELS * inputs.pred.shape[1] if inputs.softmax else FEW):
        return
    low, high = _extremes(few)
    if not (low >= 0 and high <= 1):
        return
    low, high = _extremes_of_what_counts(inputs, inputs.pred, other=0.5)
    if not (low >= 0 and high <= 1):
        return
    if inputs.softmax:
        slack = SUM_SLACK if inputs.pred.dtype.itemsize < 4 else SLACK
        least, most = _extremes_of_sums(inputs, inputs.pred)
        found = 1 - slack <= least <= most <= 1 + slack and low < high and _counts_any(inputs)
    else:
        found = low < NEAR and high > 1 - NEAR
    if found:
        how = "and its channels add up to 1 in every voxel" if inputs.softmax else "and comes near both"
        hint = (
            "pass from_logits=False, or leave the activation out of the model; if they are logits that happen to, as "
            "random numbers from 0 to 1 may, pass check_inputs=False"
        )
        msg = f"pred runs from {low:g} to {high:g} {how}, as probabilities do, but is read as logits; {hint}"
        raise LossInputError(msg)


def _counts_any(inputs: Inputs) -> bool:
    counted = inputs.counted()
    return counted is None or bool(counted.any())


def _check_adds_up(name: str, inputs: Inputs, values: Tensor) -> None:
    low, high = _extremes_of_sums(inputs, values)
    if not (low >= 1 - SUM_SLACK and high <= 1 + SUM_SLACK):
        msg = f"the channels of {name} add up to {low:g} to {high:g} in a voxel; with mode='multiclass' give 1"
        raise LossInputError(msg)


def _extremes_of_sums(inputs: Inputs, values: Tensor) -> tuple[float, float]:
    """Return the least and the greatest sum over the channels of a voxel that counts."""
    found = []
    for rows, voxels in cut(*inputs.pred.shape, size=block_size(inputs.pred.device)):
        whole = values[rows, :, voxels].detach().sum(1, keepdim=True, dtype=torch.float32)
        found.append(torch.stack(torch.aminmax(only_where(inputs.block(rows, voxels).counted(), whole, 1.0))))
    return _join(found)


def _extremes(values: Tensor) -> tuple[float, float]:
    """Return the least and the greatest of *values*, NaN if there is one."""
    low, high = torch.aminmax(_comparable(values))
    low, high = torch.stack((low, high)).tolist()  # together: one wait for the device, not two
    return low + 0.0, high + 0.0  # numbers that can be printed, and no -0


def _comparable(values: Tensor) -> Tensor:
    """Return *values* in a dtype in which torch compares: it does not do so in those of 16-bit and 32-bit masks."""
    odd = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.float64}
    return values.detach().to(odd.get(values.dtype, values.dtype))


def _extremes_of_what_counts(inputs: Inputs, values: Tensor, *, other: float = 0) -> tuple[float, float]:
    """Return the least and the greatest of *values*, of which *other* stands for what does not count."""
    found = []
    for rows, voxels in cut(*inputs.pred.shape, size=block_size(inputs.pred.device)):
        counted = inputs.block(rows, voxels).counted()
        part = _comparable(values[rows, :, voxels])
        found.append(torch.stack(torch.aminmax(only_where(counted, part, other))))
    return _join(found)


def _join(found: Sequence[Tensor]) -> tuple[float, float]:
    both = torch.stack(tuple(found))
    low, high = torch.stack((both[:, 0].amin(), both[:, 1].amax())).tolist()
    return float(low), float(high)


def _way_out(target: Tensor, low: float, high: float) -> str:
    if low in {0, 255} and high == 255:
        return "pass target > 0, or target / 255 if it is soft; ignore_index=255 if nobody labelled those voxels"
    if low >= 0 and not target.is_floating_point():
        mask = f"target > 0 if it is a mask of 0 and {high:g}; if it is class numbers "
        return f"pass {mask if low == 0 else ''}one channel per class, or mode='multiclass'"
    return "look for the preprocessing that made it, or mask those voxels out"
