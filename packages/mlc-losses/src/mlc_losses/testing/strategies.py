"""Random segmentations that shrink well: logits, targets, masks and weights for Hypothesis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import torch
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Case", "cases"]


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """Logits with a target, a mask of what counts and how much it counts.

    All are `(B, C, *spatial)`, or where the target is labels only the logits are, and the others `(B, *spatial)`.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    weight: Tensor

    @property
    def what_counts(self) -> dict[str, Tensor]:
        """Mask and weight, as arguments of a loss."""
        return {"mask": self.mask, "weight": self.weight}


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    channels: int | None = None,
    samples: int | None = None,
    soft: bool = False,
    labels: bool = False,
    shared: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Draw small segmentations of one, two or three spatial axes, empty and full ones among them.

    *channels* are one to three, or with class numbers or shared probabilities two to four, and *samples* one or two.
    Targets hold fractions where they are *soft*, class numbers where they are *labels*, and add up to 1 over channels
    where these are *shared*.
    """
    least = 2 if labels or shared else 1
    size = (
        samples or draw(st.integers(1, 2)),
        channels or draw(st.integers(least, least + 2)),
        *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    )
    flat = (size[0], *size[2:]) if labels else (size[0], 1, *size[2:]) if shared else size

    def fill(elements: st.SearchStrategy[Any], shape: tuple[int, ...] = size) -> Tensor:
        count = math.prod(shape)
        return torch.tensor(draw(st.lists(elements, min_size=count, max_size=count)), dtype=torch.float64).view(shape)

    if labels:
        target = fill(st.integers(0, size[1] - 1), flat).long()
    elif shared:
        whole = fill(st.integers(0, size[1] - 1), flat).long()
        target = torch.zeros(size, dtype=torch.float64).scatter_(1, whole, 1)
        blur = fill(st.sampled_from([0.0, 0.25, 1.0]), flat) if soft else torch.zeros(flat, dtype=torch.float64)
        target = (target * (1 - blur) + blur / size[1]).to(dtype)
    else:
        target = fill(st.floats(0, 1, width=16) if soft else st.sampled_from([0.0, 1.0])).to(dtype)
    return Case(
        pred=fill(st.floats(-8, 8, width=16)).to(dtype),
        target=target,
        mask=fill(st.sampled_from([1.0, 0.0]), flat).bool(),
        weight=fill(st.sampled_from([1.0, 0.0, 0.5, 3.0]), flat),
    )
