"""What the losses of a run leave behind for the methods that weigh them."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, ClassVar, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Method", "Trail", "draw", "ratio", "slope", "softmax"]

HUGE = 1e150
"""Where ratios and slopes end, so that no product of two of them overflows."""


@attrs.frozen(kw_only=True)
class Trail:
    """Everything a method may go by, each by component."""

    base: Mapping[str, float]
    """The weights that the loss began with."""
    weights: Mapping[str, float]
    """The weights as they are."""
    now: Mapping[str, float]
    """The average loss, this step included."""
    before: Mapping[str, float] | None
    """The average loss at the step before, or `None` at the first."""
    first: Mapping[str, float]
    """The average loss at the first step."""
    count: int
    """How many steps are in the averages."""


class Method(Protocol):
    """How weights follow from losses."""

    name: ClassVar[str]
    default_ema: ClassVar[float]
    default_rho: ClassVar[float | None]
    """How much of the old weights stays, or `None` where the method itself sees to that."""
    spares_zero: ClassVar[bool]
    """Whether a component with weight 0 keeps it."""

    def propose(self, trail: Trail) -> Mapping[str, float] | None:
        """Return weights in proportion, or `None` where it is too early to tell."""

    def explain(self) -> str:
        """Return the formula with its options, for people."""


def softmax(values: Mapping[str, float]) -> dict[str, float]:
    """Return e to the power of *values*, divided by the sum of that."""
    bounded = {name: max(-HUGE, min(HUGE, one)) for name, one in values.items()}
    top = max(bounded.values())
    grown = {name: math.exp(one - top) for name, one in bounded.items()}
    total = math.fsum(grown.values())
    return {name: one / total for name, one in grown.items()}


def ratio(over: float, under: float, *, eps: float) -> float:
    """Return *over* / *under*, finite whatever they are."""
    return max(-HUGE, min(HUGE, over / math.copysign(max(abs(under), eps), under)))


def slope(now: float, before: float) -> float:
    """Return how far *now* is above *before*, finite whatever they are."""
    return max(-HUGE, min(HUGE, now - before))


def draw(seed: int, count: int) -> float:
    """Return a number from 0 to 1, 1 excluded, that follows from *seed* and *count* on every machine."""
    digest = hashlib.sha256(f"{seed}:{count}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
