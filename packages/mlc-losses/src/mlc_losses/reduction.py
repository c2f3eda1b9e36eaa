"""How elements become one number: what is divided by what, in one process or in several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.options import Reduction

__all__ = ["add_up_processes", "reduce"]


def reduce(values: Tensor, counts: Tensor | None, reduction: Reduction, *, everywhere: bool = False) -> Tensor:
    """Make one number of *values*, which are 0 where *counts* is: their sum, or their sum over the sum of *counts*.

    One denominator rule for every loss: a mean is what the elements cost over how much the elements count.

    Args:
        values: `(B, ...)`, each already times how much it counts.
        counts: The same shape: how much each counts; `None` for 1 each.
        reduction: "mean", "sum", "sample" for a mean of each sample `(B,)`, "none" for *values* as they are.
        everywhere: Whether to add up what all processes of the default group have, before dividing.
    """
    if reduction == "none":
        return values
    axes = tuple(range(1 if reduction == "sample" else 0, values.dim()))
    if counts is None and not everywhere and values.numel():
        return values.sum() if reduction == "sum" else values.mean(axes) if axes else values
    counts = torch.ones_like(values) if counts is None else counts
    counts = counts.detach()  # they follow from the target
    total, count = (one.sum(axes) if axes else one for one in (values, counts))  # torch takes no axes for all of them
    if everywhere:
        total, count = add_up_processes(torch.stack([total, count.to(total.dtype)])).unbind(0)
    if reduction == "sum":
        return total
    return total / torch.where(count > 0, count, torch.inf)  # where nothing counts the mean is 0


def add_up_processes(values: Tensor) -> Tensor:
    """Return the sum of *values* over all processes of the default group; all must call it together.

    The gradient is summed over processes too. Each of them has the same loss of the same sums, and
    DistributedDataParallel averages gradients: what comes out is the gradient of one process with the whole batch.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    summed: Tensor = _AddUp.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        return add_up_processes(gradient)  # itself differentiable, for second derivatives
