"""The sums of a softmax over few classes, one class at a time: a compiler makes one loop over voxels of each pass.

A sum over an axis with a stride keeps it from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.inputs import only_where, sum_dtype, working_dtype
from mlc_losses.terms import RegionTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.terms import Term, VoxelTerm

__all__ = ["can_unroll", "sum_unrolled"]

CLASSES = 8
"""How many classes are few: each of them is code."""


def can_unroll(inputs: Inputs, terms: Sequence[Term]) -> bool:
    """Return whether `sum_unrolled` has all that *inputs* and *terms* ask for."""
    few = inputs.labelled and inputs.from_logits and inputs.pred.shape[1] <= CLASSES
    return few and inputs.weight is None and not any(one.smoothing for one in terms)


def sum_unrolled(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums of each of *terms*, as `sum_plain` does."""
    counted = inputs.counted()
    pred = inputs.pred.to(working_dtype(inputs))
    here = None if counted is None else counted[:, 0]
    log_p, p, t = _read(pred, inputs.target, here)
    count = torch.full_like(p[0][:, 0], p[0].shape[1]) if here is None else here.to(pred.dtype).sum(1)
    sums = [
        _sum_region(term, p, t, count) if isinstance(term, RegionTerm) else _sum_voxels(term, log_p, t, count)
        for term in terms
    ]
    return tuple(one.to(sum_dtype(pred.device)) for one in sums)


def _read(
    pred: Tensor, target: Tensor, here: Tensor | None
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Return logarithms of probabilities, probabilities and targets by class; what does not count is 0."""
    x = [only_where(here, one) for one in pred.unbind(1)]
    top = x[0]
    for one in x[1:]:
        top = torch.maximum(top, one)
    shifted = [one - top for one in x]
    powers = [one.exp() for one in shifted]
    total = _add_up(powers)
    log_total, share = total.log(), total.reciprocal()
    t = [target == number for number in range(len(x))]
    if here is not None:
        t = [one & here for one in t]
    return [one - log_total for one in shifted], [only_where(here, one * share) for one in powers], t


def _add_up(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for one in values[1:]:
        total = total + one
    return total


def _sum_region(term: RegionTerm, p: Sequence[Tensor], t: Sequence[Tensor], count: Tensor) -> Tensor:
    """Return `(5, B, C)`."""
    overlap = [only_where(right, one).sum(1) for one, right in zip(p, t, strict=True)]
    size = [(one * one if term.squared else one).sum(1) for one in p]
    present = [one.to(p[0].dtype).sum(1) for one in t]
    return torch.stack([torch.stack(one, 1) for one in (overlap, size, present, present, [count] * len(p))])


def _sum_voxels(term: VoxelTerm, log_p: Sequence[Tensor], t: Sequence[Tensor], count: Tensor) -> Tensor:
    """Return `(2, B, K)`."""
    costs = [only_where(right, -one * _power(one, term.gamma)) for one, right in zip(log_p, t, strict=True)]
    if term.by_class:
        present = [one.to(log_p[0].dtype).sum(1) for one in t]
        return torch.stack([torch.stack([one.sum(1) for one in costs], 1), torch.stack(present, 1)])
    return torch.stack([_add_up(costs).sum(1, keepdim=True), count.unsqueeze(1)])


def _power(log_p: Tensor, exponent: float) -> Tensor | float:
    """Return `(1 - p)^exponent`."""
    if not exponent:
        return 1.0
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny).pow(exponent)
