"""Facts about one evaluation of a combined loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Breakdown", "Part"]


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """What one component had to say. All tensors are 0-dim and detached."""

    name: str
    value: Tensor
    """The component's own loss, unweighted."""
    weight: Tensor
    """The weight at that moment."""
    weighted: Tensor
    """What the component added to the total."""
    share: Tensor
    """The fraction of the total that this is, or 0 where the total is 0."""


@attrs.frozen(kw_only=True, eq=False)
class Breakdown:
    """The total of a combined loss and what it consists of."""

    total: Tensor
    """What the loss itself returns, to the bit, with its graph."""
    parts: Sequence[Part]
