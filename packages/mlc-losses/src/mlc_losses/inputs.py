"""One evaluation's tensors, the same way for every loss: voxels in one axis, and what counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.options import Mode

__all__ = ["Inputs", "known_all", "only_where", "read_inputs", "sum_dtype", "working_dtype"]


class Inputs(NamedTuple):
    """Prediction and target with all voxels of a sample in one axis.

    A tuple and not one of our frozen classes, because `torch.compile` traces how this is made.
    """

    pred: Tensor
    """`(B, C, n)`, logits or probabilities."""
    target: Tensor
    """`(B, C, n)`, or class numbers `(B, n)`."""
    mask: Tensor | None
    """`(B, 1, n)` or `(B, C, n)`, bool: what counts."""
    weight: Tensor | None
    """`(B, 1, n)` or `(B, C, n)`, floating point: how much it counts. What weighs 0 does not count."""
    softmax: bool
    """Whether the channels share one probability, or have one each."""
    from_logits: bool
    ignore_index: int | None
    """The target value of what does not count."""
    spatial: tuple[int, ...]
    """The spatial axes of which n is the product."""
    hard: bool | None
    """Whether the target holds 0 and 1 alone where it counts, or numbers of classes; `None` where nobody has looked."""

    @property
    def labelled(self) -> bool:
        """Whether the target holds class numbers."""
        return self.target.dim() == 2

    def block(self, samples: slice, voxels: slice) -> Inputs:
        """Return a part, without copying."""
        return self._replace(
            pred=self.pred[samples, :, voxels],
            target=self.target[samples, ..., voxels],
            mask=None if self.mask is None else self.mask[samples, :, voxels],
            weight=None if self.weight is None else self.weight[samples, :, voxels],
        )

    def counted(self) -> Tensor | None:
        """Return what counts, by mask, weight and ignored target: `(B, 1, n)` or `(B, C, n)`, `None` for all."""
        counted = self.mask
        if self.weight is not None:
            counted = self.weight > 0 if counted is None else counted & (self.weight > 0)
        if self.ignore_index is not None:
            judged = self.target != self.ignore_index
            if self.labelled:
                judged = judged.unsqueeze(1)
            elif self.softmax:  # channels that share one probability count together or not at all
                judged = judged.all(1, keepdim=True)
            counted = judged if counted is None else counted & judged
        return counted


def read_inputs(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    *,
    mode: Mode,
    from_logits: bool,
    ignore_index: int | None,
) -> Inputs:
    """Return tensors of `(B, C, *spatial)`, which are known to be good, as `Inputs`."""
    softmax = mode == "multiclass"
    if softmax and target.dim() == pred.dim() and target.shape[1] == 1:
        target = target.squeeze(1)
    labelled = softmax and target.dim() < pred.dim()
    return Inputs(
        pred=pred.flatten(2),
        target=target.flatten(1) if labelled else target.flatten(2),
        mask=None if mask is None else _with_channels(mask, pred).flatten(2),
        weight=None if weight is None else _with_channels(weight, pred).flatten(2),
        softmax=softmax,
        from_logits=from_logits,
        ignore_index=ignore_index if ignore_index is None or _holds(target.dtype, ignore_index) else None,
        spatial=tuple(pred.shape[2:]),
        hard=None,
    )


def _holds(dtype: torch.dtype, number: int) -> bool:
    """Return whether *number* can be a value of *dtype*: compared with uint8, torch takes -1 for 255."""
    if dtype.is_floating_point or dtype == torch.bool:
        return True
    limits = torch.iinfo(dtype)
    return limits.min <= number <= limits.max


def _with_channels(one: Tensor, pred: Tensor) -> Tensor:
    return one.unsqueeze(1) if one.dim() < pred.dim() else one


def working_dtype(inputs: Inputs) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 where the prediction or a soft target is.

    Sums of half a million float16 numbers overflow; a float64 caller wants float64.
    """
    wide = torch.promote_types(inputs.pred.dtype, torch.float32)
    return torch.promote_types(wide, inputs.target.dtype) if inputs.target.is_floating_point() else wide


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums, float64 where *device* has it: formulas then lose nothing to cancellation."""
    return torch.float32 if device.type == "mps" else torch.float64


def only_where(mask: Tensor | None, values: Tensor, other: float = 0.0) -> Tensor:
    """Return *values* with *other* where *mask* is false.

    Chosen, not multiplied: 0 * NaN is NaN, in the value and again in the gradient.
    """
    return values if mask is None else torch.where(mask, values, other)


def known_all(mask: Tensor) -> bool:
    """Return whether all of *mask* is true, and can be seen to be without waiting or breaking a graph."""
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())
