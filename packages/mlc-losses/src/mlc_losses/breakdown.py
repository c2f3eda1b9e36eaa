"""From the values of components to what each contributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.records import Breakdown, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["add_up", "break_up"]


def break_up(
    total: Tensor, parts: Mapping[str, tuple[Tensor, Tensor, Tensor]], regulariser: Tensor | None
) -> Breakdown:
    """Return the *total* and its *parts* by name, each a value, a weight and what is weighted, with their shares."""
    weighted = [one for _, _, one in parts.values()]
    whole = add_up(weighted)
    return Breakdown(
        total=total,
        parts=tuple(
            Part(name, *numbers, share=torch.where(whole == 0, 0, numbers[-1] / whole))
            for name, numbers in parts.items()
        ),
        regulariser=regulariser,
    )


def add_up(values: Sequence[Tensor]) -> Tensor:
    """Return the sum of *values*, in order."""
    total = values[0]
    for one in values[1:]:
        total = total + one
    return total
