"""The sums as formulas that autograd differentiates: what every faster way must agree with.

Also the way that `torch.compile` traces, and that a second derivative takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from mlc_losses.inputs import only_where, sum_dtype, working_dtype
from mlc_losses.terms import RegionTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.terms import Term, VoxelTerm

__all__ = ["cost_voxels", "sum_plain"]


class Voxels(NamedTuple):
    """Inputs in the working dtype, 0 where nothing counts."""

    x: Tensor
    """`(B, C, n)`, logits or probabilities."""
    t: Tensor
    """`(B, C, n)`, from 0 to 1."""
    w: Tensor | None
    """`(B, 1, n)` or `(B, C, n)`, how much each voxel counts, `None` for 1 everywhere."""
    softmax: bool
    from_logits: bool
    hard: bool
    """Whether the dtype says that *t* holds 0 and 1 alone."""


def sum_plain(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums of each of *terms*, float64, with a graph to *inputs.pred*."""
    voxels = _read(inputs)
    return tuple(
        (_sum_region(voxels, term) if isinstance(term, RegionTerm) else _sum_voxels(voxels, term)).to(
            sum_dtype(inputs.pred.device)
        )
        for term in terms
    )


def cost_voxels(inputs: Inputs, term: VoxelTerm) -> Tensor:
    """Return what each voxel costs times how much it counts.

    The shape is `(B, K, C, n)` with a sigmoid, where K is 1, or with `by_class` 2 for background and foreground; and
    `(B, C, n)` with a softmax, by class.
    """
    voxels = _read(inputs)
    if voxels.softmax:
        return _times(_cost_softmax(voxels, term), voxels.w)
    return torch.stack([_times(one, voxels.w) for one in _cost_sigmoid(voxels, term)], 1)


def _read(inputs: Inputs) -> Voxels:
    dtype = working_dtype(inputs)
    counted = inputs.counted()
    x = only_where(counted, inputs.pred.to(dtype))
    if inputs.labelled:
        labels = inputs.target.unsqueeze(1)
        classes = torch.arange(x.shape[1], device=labels.device).view(1, -1, 1)
        t = only_where(counted, (labels == classes).to(dtype))
    else:
        t = only_where(counted, inputs.target.to(dtype))
    w = None
    if counted is not None:
        w = counted.to(dtype) if inputs.weight is None else only_where(counted, inputs.weight.to(dtype))
    hard = inputs.labelled or not inputs.target.is_floating_point()
    return Voxels(x=x, t=t, w=w, softmax=inputs.softmax, from_logits=inputs.from_logits, hard=hard)


def _smooth(t: Tensor, smoothing: float, *, softmax: bool) -> Tensor:
    if not smoothing:
        return t
    return t * (1 - smoothing) + smoothing / (t.shape[1] if softmax else 2)


def _sum_region(voxels: Voxels, term: RegionTerm) -> Tensor:
    """Return `(5, B, C)`."""
    w = voxels.w
    p = _probabilities(voxels)
    t = _smooth(voxels.t, term.smoothing, softmax=voxels.softmax)
    if term.squared:
        overlap, size_p, size_t = p * t, p * p, t * t
    else:
        overlap, size_p, size_t = p * t if voxels.hard and not term.smoothing else _least(p, t), p, t
    present = voxels.t
    sums = [_times(one, w).sum(-1) for one in (overlap, size_p, size_t, present)]
    count = torch.full_like(sums[0], p.shape[-1]) if w is None else w.sum(-1).expand(sums[0].shape)
    return torch.stack([*sums, count])


def _least(p: Tensor, t: Tensor) -> Tensor:
    """Return min(p, t) with the gradient of p·t where t is 0 or 1, also where p has reached t."""
    return torch.where((p < t) | (t == 1), p, t)


def _probabilities(voxels: Voxels) -> Tensor:
    if not voxels.from_logits:
        return voxels.x
    return torch.softmax(voxels.x, 1) if voxels.softmax else torch.sigmoid(voxels.x)


def _sum_voxels(voxels: Voxels, term: VoxelTerm) -> Tensor:
    """Return `(2, B, K)`."""
    w, t = voxels.w, voxels.t
    if voxels.softmax:
        total = _times(_cost_softmax(voxels, term), w).sum(-1)
        if term.by_class:
            return torch.stack([total, _times(t, w).sum(-1)])
        total = total.sum(1, keepdim=True)
        return torch.stack([total, _count(voxels, total)])
    totals = [
        _times(one, w).sum(-1) for one in _cost_sigmoid(voxels, term)
    ]  # summed before they are stacked: no copies
    if not term.by_class:
        return torch.stack([totals[0], _count(voxels, totals[0])])
    counts = [_times(one, w).sum(-1) for one in (1 - t, t)]
    return torch.stack([torch.stack(pair, -1).flatten(1) for pair in (totals, counts)])


def _times(values: Tensor, w: Tensor | None) -> Tensor:
    return values if w is None else values * w


def _count(voxels: Voxels, like: Tensor) -> Tensor:
    if voxels.w is None:
        return torch.full_like(like, voxels.x.shape[-1])
    return voxels.w.sum(-1).expand(like.shape)


def _cost_sigmoid(voxels: Voxels, term: VoxelTerm) -> tuple[Tensor, ...]:
    """Return what each voxel costs, or with `by_class` as background and as foreground, each `(B, C, n)`."""
    x = voxels.x
    t = _smooth(voxels.t, term.smoothing, softmax=False)
    if voxels.from_logits:  # (1-t)·x - logsigmoid(x), which torch has for BCE, loses a twentieth of easy background
        log_p, log_q = functional.logsigmoid(x), functional.logsigmoid(-x)
    else:
        least = torch.finfo(x.dtype).eps
        p = x.clamp(least, 1 - least)
        log_p, log_q = torch.log(p), torch.log1p(-p)
    # chosen, not multiplied: 0 times infinity is NaN where a logit is infinite, and right
    foreground, background = torch.where(t > 0, -t * log_p, 0), torch.where(t < 1, (t - 1) * log_q, 0)
    if term.gamma:
        # exp(gamma·log q), not q**gamma: where q is 0 the derivative of the power is infinite for a gamma below 1
        foreground = foreground * torch.exp(term.gamma * log_q)
        background = background * torch.exp(term.gamma * log_p)
    return (background, foreground) if term.by_class else (foreground + background,)


def _cost_softmax(voxels: Voxels, term: VoxelTerm) -> Tensor:
    """Return `(B, C, n)`."""
    t = _smooth(voxels.t, term.smoothing, softmax=True)
    if voxels.from_logits:
        log_p = torch.log_softmax(voxels.x, 1)
    else:
        log_p = torch.log(voxels.x.clamp(torch.finfo(voxels.x.dtype).eps, 1))
    # chosen, not multiplied: 0 * log 0 is NaN where another class has a logit of -inf
    costs = torch.where(t > 0, -t * log_p, 0)
    if not term.gamma:
        return costs
    others = -torch.expm1(log_p)  # 1 - p without its rounding; at 0 the power's derivative would be infinite
    return costs * others.clamp_min(torch.finfo(others.dtype).tiny).pow(term.gamma)
