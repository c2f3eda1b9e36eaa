"""Random segmentations that shrink well: logits, targets and masks for Hypothesis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import torch
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Case", "cases"]


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """Logits with a target and a mask of what counts, all `(B, C, *spatial)`."""

    pred: Tensor
    target: Tensor
    mask: Tensor


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    channels: int | None = None,
    samples: int | None = None,
    soft: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Draw small segmentations of one, two or three spatial axes, empty and full ones among them."""
    shape = (
        samples or draw(st.integers(1, 2)),
        channels or draw(st.integers(1, 3)),
        *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    )

    def fill(elements: st.SearchStrategy[float]) -> Tensor:
        size = math.prod(shape)
        return torch.tensor(draw(st.lists(elements, min_size=size, max_size=size)), dtype=torch.float64).view(shape)

    labels = st.floats(0, 1, width=16) if soft else st.sampled_from([0.0, 1.0])
    return Case(
        pred=fill(st.floats(-8, 8, width=16)).to(dtype),
        target=fill(labels).to(dtype),
        mask=fill(st.sampled_from([1.0, 0.0])).bool(),
    )
