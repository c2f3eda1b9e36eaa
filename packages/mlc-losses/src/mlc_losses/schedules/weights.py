"""Weights by component: what they may be, and how they are brought to a sum and into bounds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number

__all__ = [
    "Bounds",
    "equal_weights",
    "project",
    "require_differing",
    "require_numbers",
    "require_weights",
    "same_sum",
    "same_weights",
]

SLACK = 1e-12
"""How far a sum may be off, relative to itself, from rounding alone."""


@attrs.frozen(kw_only=True)
class Bounds:
    """What each weight may be.

    Raises:
        LossConfigError: If the lower bound is not a number of at least 0, or the upper one not above it.
    """

    low: float = 0.0
    high: float | None = None

    def __attrs_post_init__(self) -> None:
        require_number("min_weight", self.low)
        if self.high is not None and require_number("max_weight", self.high) < self.low:
            msg = f"max_weight is {self.high:g}, below min_weight {self.low:g}; give a greater one"
            raise LossConfigError(msg)

    def require(self, name: str, weights: Mapping[str, float]) -> None:
        """Refuse *weights* called *name* that are out of bounds, as they are in force as they stand.

        Raises:
            LossConfigError: Naming the first that is.
        """
        high = math.inf if self.high is None else self.high
        for component, weight in weights.items():
            if not self.low <= weight <= high:
                msg = (
                    f"{name} has {weight:g} for {component!r}, outside min_weight={self.low:g} and "
                    f"max_weight={self.high}; give bounds that contain it, or another weight"
                )
                raise LossConfigError(msg)

    def require_room(self, base: Mapping[str, float]) -> None:
        """Refuse bounds within which as many weights as *base* has cannot have its sum.

        Raises:
            LossConfigError: Naming the sum and what can be reached.
        """
        total, count = math.fsum(base.values()), len(base)
        high = math.inf if self.high is None else self.high
        if not self.low * count <= total * (1 + SLACK) or not total <= high * count * (1 + SLACK):
            msg = (
                f"{count} weights from min_weight={self.low:g} to max_weight={self.high} cannot have the sum {total:g} "
                f"of the base weights; give wider bounds"
            )
            raise LossConfigError(msg)
        if self.low * count >= total * (1 - SLACK) or total >= high * count * (1 - SLACK):
            msg = (
                f"{count} weights from min_weight={self.low:g} to max_weight={self.high} have the sum {total:g} of the "
                f"base weights in one way only, so that none could move; give wider bounds"
            )
            raise LossConfigError(msg)


def project(weights: Mapping[str, float], total: float, bounds: Bounds) -> dict[str, float]:
    """Return *weights* times one factor, clipped to *bounds*, with the factor that makes the sum *total*.

    This is how water fills a vessel: what clipping takes from one, the others share in proportion. Weights that are
    within bounds and add up already come back as they are. Where nothing has a weight, all share alike.
    """
    low, high = bounds.low, total if bounds.high is None else min(bounds.high, total)
    if same_sum(weights, total) and all(low <= one <= high for one in weights.values()):
        return dict(weights)
    fixed: dict[str, float] = {}
    free = dict(weights)
    while free:
        free = _scale(free, total - math.fsum(fixed.values()))
        above = {name: one - high for name, one in free.items() if one > high}
        below = {name: low - one for name, one in free.items() if one < low}
        if not above and not below:
            break
        # whoever is further out stays at the bound for good: the others must make up for it
        too_much = math.fsum(above.values()) >= math.fsum(below.values())
        for name in above if too_much else below:
            fixed[name] = high if too_much else low
            del free[name]
    return {name: fixed[name] if name in fixed else free[name] for name in weights}


def _scale(weights: Mapping[str, float], total: float) -> dict[str, float]:
    top = max(weights.values())
    if not top > 0:
        return dict.fromkeys(weights, max(total, 0.0) / len(weights))
    parts = {name: one / top for name, one in weights.items()}  # so that no sum overflows and no factor does
    factor = max(total, 0.0) / math.fsum(parts.values())
    return {name: one * factor for name, one in parts.items()}


def same_sum(weights: Mapping[str, float], total: float) -> bool:
    """Say whether *weights* add up to *total*, but for rounding."""
    return abs(sum(weights.values()) - total) <= SLACK * total  # fsum would raise where a sum overflows


def same_weights(some: Mapping[str, float], others: Mapping[str, float], *, slack: float = 0.0) -> bool:
    """Say whether no weight of *some* is further from that of *others* than *slack*, but for rounding."""
    slack = max(slack, SLACK * max(others.values()))
    return all(abs(one - others[name]) <= slack for name, one in some.items())


def equal_weights(base: Mapping[str, float]) -> dict[str, float]:
    """Return the same weight for all components, with the sum of *base*."""
    return dict.fromkeys(base, math.fsum(base.values()) / len(base))


def require_numbers(name: str, value: Any, names: Collection[str], *, low: float = -math.inf) -> dict[str, float]:
    """Return *value*, called *name*, as one finite number of at least *low* for each component in *names*.

    Raises:
        LossConfigError: If components differ, or one has no such number.
    """
    if not isinstance(value, Mapping) or set(value) != set(names):
        shown = sorted(value, key=str) if isinstance(value, Mapping) else repr(value)
        msg = f"{name} is for {shown}, but the loss has the components {sorted(names)}; give a number for each of them"
        raise LossConfigError(msg)
    return {component: require_number(f"{name}[{component!r}]", value[component], low=low) for component in names}


def require_weights(name: str, value: Any, base: Mapping[str, float], *, keep_sum: bool = False) -> dict[str, float]:
    """Return *value*, called *name*, as one weight of at least 0 for each component of *base*.

    Raises:
        LossConfigError: If components differ, a weight is none, or *keep_sum* and the sum is another.
    """
    weights = require_numbers(name, value, base, low=0.0)
    total, wanted = sum(weights.values()), sum(base.values())  # fsum would raise where a sum overflows
    if total == 0:
        msg = f"{name} is 0 for all components, so nothing would be learnt; give one above 0"
        raise LossConfigError(msg)
    if keep_sum and not math.isclose(total, wanted, rel_tol=1e-6):
        msg = (
            f"{name} adds up to {total:g} but the base weights to {wanted:g}, which scales the learning rate too; give "
            f"numbers with the sum {wanted:g}, or keep_sum=False"
        )
        raise LossConfigError(msg)
    return weights


def require_differing(name: str, factors: Mapping[str, float]) -> None:
    """Refuse *factors* called *name* that are the same for all components.

    Raises:
        LossConfigError: Naming them.
    """
    if len(set(factors.values())) == 1:
        msg = (
            f"{name} is the same for all components: {dict(factors)}; the sum of the weights is restored, so none "
            f"would move: give one that differs"
        )
        raise LossConfigError(msg)
