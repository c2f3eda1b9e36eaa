"""What losses want summed over voxels: the few numbers that a value and its gradient follow from.

A loss over regions or over voxels never looks at voxels itself. It says which sums it needs, as terms; `summation`
makes the sums of all terms in one pass over the tensors; and the loss judges them, on tensors with one number for each
sample and channel. So a combination costs one pass, every loss has the same options, and only the sums need a fast
gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["RegionSums", "RegionTerm", "Term", "VoxelTerm", "part_sides"]


@attrs.frozen(kw_only=True)
class RegionTerm:
    """How far prediction and target overlap in each channel of each sample.

    The sums are one tensor `(5, B, C)`, which `RegionSums` reads. With `w` the weight of a voxel, `p` its probability
    and `t` its target:

    overlap
        `Σ w·min(p, t)`, which is `Σ w·p·t` for targets of 0 and 1; with *squared* `Σ w·p·t` for all.
    size_p, size_t
        `Σ w·p` and `Σ w·t`, with *squared* `Σ w·p²` and `Σ w·t²`.
    present
        `Σ w·t` of the target as it was given: 0 where a region has no foreground.
    count
        `Σ w`.
    """

    squared: bool = False
    smoothing: float = 0.0
    """`e` in `t·(1-e) + e/K`, with K channels, or 2 where each channel stands alone."""


@attrs.frozen(kw_only=True)
class VoxelTerm:
    """What each voxel costs: cross entropy, with *gamma* focal.

    The sums are one tensor `(2, B, K)` of costs and counts. With a sigmoid there is a cell for each channel, or with
    *by_class* two, background before foreground: K is C or 2·C. With a softmax there is one cell, or with *by_class*
    one for each class: K is 1 or C. A count is `Σ w` over the voxels of the cell, by the target as it was given.
    """

    gamma: float = 0.0
    smoothing: float = 0.0
    by_class: bool = False


Term: TypeAlias = RegionTerm | VoxelTerm


def part_sides(terms: Sequence[Term]) -> bool:
    """Return whether foreground and background cost by different powers or cells: faster where a voxel is but one."""
    return any(isinstance(one, VoxelTerm) and bool(one.gamma or one.by_class) for one in terms)


class RegionSums:
    """The sums of a `RegionTerm` by name, each `(B, C)` or, summed over the batch, `(C,)`."""

    __slots__ = ("count", "overlap", "present", "size_p", "size_t")

    def __init__(self, sums: Tensor) -> None:
        self.overlap, self.size_p, *_ = sums.unbind(0)
        self.size_t, self.present, self.count = sums.detach()[2:].unbind(0)
