"""Facts about combined losses: one evaluation, and one moment of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["Breakdown", "LossMoment", "Part"]

WHAT = ("loss", "weight", "weighted", "share")
"""What keys end in, in the order of the fields of a part."""


class Part(NamedTuple):
    """What one component had to say. All tensors are detached, and 0-dim, or with reduction="sample" `(B,)`.

    A tuple and not one of our frozen classes, because `torch.compile` traces how this is made.
    """

    name: str
    value: Tensor
    """The component's own loss, unweighted."""
    weight: Tensor
    """The weight at that moment."""
    weighted: Tensor
    """The value times the weight, 0 where the weight is 0."""
    share: Tensor
    """The fraction of the sum of all that is weighted, or 0 where that is 0."""


class Breakdown(NamedTuple):
    """The total of a combined loss and what it consists of."""

    total: Tensor
    """What the loss itself returns, to the bit, with its graph."""
    parts: Sequence[Part]
    regulariser: Tensor | None
    """What weights that are learnt cost, detached: all that is weighted and this are the total. `None` for others."""

    def by_name(self) -> dict[str, Tensor]:
        """Return it as a dictionary, as `get_loss_components` does."""
        found: dict[str, Tensor] = {}
        for name, *numbers in self.parts:
            found |= {f"{name}_{what}": one for what, one in zip(WHAT, numbers, strict=True)}
        return {**found, **({} if self.regulariser is None else {"regulariser": self.regulariser}), "total": self.total}


@attrs.frozen(kw_only=True)
class LossMoment:
    """What a schedule is told when the weights of a combined loss may change."""

    step: int
    """How many times the scheduler has been stepped, this time included: the first is 1."""
    base: Mapping[str, float]
    """The weights that the loss began with, by component."""
    weights: Mapping[str, float]
    """The weights as they are."""
    epoch: int | None = None
    """What the caller calls it."""
    time: int = attrs.field(default=attrs.Factory(lambda self: self.step, takes_self=True))
    """How many epochs are over, for schedules that go by time: `epoch + 1`, or without one a step more than before."""
    losses: Mapping[str, float] | None = None
    """The value of each component, unweighted and finite, for schedules with `needs_losses`."""
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    """What the caller measured, as far as it is numbers."""
