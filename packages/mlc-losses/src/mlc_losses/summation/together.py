"""The sums of channels that each stand alone, as a compiler likes them: one exponential and one logarithm a voxel.

Probability, logarithms and their derivatives all follow from `exp(-|x|)`, which the plain formulas take five times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from mlc_losses.inputs import only_where, sum_dtype, working_dtype
from mlc_losses.terms import RegionTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.terms import Term, VoxelTerm

__all__ = ["can_share", "sum_sharing"]


class Voxels(NamedTuple):
    """What every term is made of, each `(B, C, n)`; what does not count has a target and a probability of 0."""

    t: Tensor
    p: Tensor
    q: Tensor
    """`1 - p`, without its rounding."""
    log_p: Tensor
    """`-log p`."""
    log_q: Tensor
    """`-log(1 - p)`."""


def can_share(inputs: Inputs, terms: Sequence[Term]) -> bool:
    """Return whether `sum_sharing` has all that *inputs* and *terms* ask for."""
    alone = not inputs.softmax and inputs.from_logits and inputs.weight is None
    return alone and not any(one.smoothing for one in terms)


def sum_sharing(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums of each of *terms*, as `sum_plain` does."""
    dtype = working_dtype(inputs)
    counted = inputs.counted()
    here = None if counted is None else counted.expand(inputs.pred.shape)
    voxels = _read(inputs.pred.to(dtype), inputs.target.to(dtype), here)
    of_all = torch.full_like(voxels.p[..., 0], voxels.p.shape[-1])
    count = of_all if here is None else here.to(dtype).sum(-1)
    sums = [
        _sum_region(term, voxels, count) if isinstance(term, RegionTerm) else _sum_voxels(term, voxels, here, count)
        for term in terms
    ]
    return tuple(one.to(sum_dtype(inputs.pred.device)) for one in sums)


def _read(pred: Tensor, target: Tensor, here: Tensor | None) -> Voxels:
    x, t = only_where(here, pred), only_where(here, target)
    above = x >= 0  # the same question for all, so that at 0 each derivative is that of one side
    e = torch.exp(torch.where(above, -x, x))
    larger = 1 / (1 + e)
    smaller = e * larger
    rest = torch.log1p(e)
    p = torch.where(above, larger, smaller)
    return Voxels(
        t=t,
        p=only_where(here, p),
        q=torch.where(above, smaller, larger),
        log_p=torch.where(above, 0, -x) + rest,
        log_q=torch.where(above, x, 0) + rest,
    )


def _sum_region(term: RegionTerm, voxels: Voxels, count: Tensor) -> Tensor:
    """Return `(5, B, C)`."""
    p, t = voxels.p, voxels.t
    present = t.sum(-1)
    if term.squared:
        sums = [(p * t).sum(-1), (p * p).sum(-1), (t * t).sum(-1)]
    else:
        sums = [torch.where((p < t) | (t == 1), p, t).sum(-1), p.sum(-1), present]
    return torch.stack([*sums, present, count])


def _sum_voxels(term: VoxelTerm, voxels: Voxels, here: Tensor | None, count: Tensor) -> Tensor:
    """Return `(2, B, K)`."""
    t = voxels.t
    # chosen, not multiplied: 0 times infinity is NaN where a logit is infinite, and right
    foreground = torch.where(t > 0, t * voxels.log_p, 0) * _power(voxels.q, voxels.log_q, term.gamma)
    background = torch.where(t < 1, (1 - t) * voxels.log_q, 0) * _power(voxels.p, voxels.log_p, term.gamma)
    if not term.by_class:
        return torch.stack([only_where(here, foreground + background).sum(-1), count])
    present = t.sum(-1)
    costs = [only_where(here, one).sum(-1) for one in (background, foreground)]
    return torch.stack([torch.stack(pair, -1).flatten(1) for pair in (costs, (count - present, present))])


def _power(values: Tensor, logarithms: Tensor, gamma: float) -> Tensor | float:
    """Return `values^gamma`; *logarithms* are minus theirs."""
    if not gamma:
        return 1.0
    # below 1 the derivative of the power would be infinite where a value is 0
    return values**gamma if gamma >= 1 else torch.exp(-gamma * logarithms)
