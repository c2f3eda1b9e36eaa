"""What all methods share that follow the losses: averages, patience, smoothing and bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number
from mlc_losses.schedules.adaptive.trail import Trail
from mlc_losses.schedules.options import keep_copies, plain_options, require_count, require_keys
from mlc_losses.schedules.weights import Bounds, project, require_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.records import LossMoment
    from mlc_losses.schedules.adaptive.trail import Method

__all__ = ["AdaptiveSchedule"]

AVERAGES = ("ema", "prev", "first")
LOAD = "load what state_dict returned"


@attrs.define(kw_only=True, field_transformer=keep_copies)
class AdaptiveSchedule:
    """Let the weights follow the average losses l̄ of the components, as *method* says.

    w <- P(rho · w + (1 - rho) · ŵ), where ŵ is what the method proposes, brought to the sum of the base weights, and P
    restores that sum within the bounds. l̄ is ema · l̄ + (1 - ema) · l, corrected for having begun at 0.

    Args:
        method: How weights follow from losses.
        ema: How much of the old average stays; with 0 it is the last loss. The default is the method's.
        rho: How much of the old weights stays. The default is the method's.
        hold: For how many steps the base weights stay while averages are gathered.
        min_weight, max_weight: Bounds of every weight.
    """

    name: ClassVar[str] = "adaptive"
    needs_losses: ClassVar[bool] = True
    keeps_sum: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    method: Method
    ema: float
    rho: float
    hold: int = 0
    min_weight: float = 0.0
    max_weight: float | None = None
    _names: tuple[str, ...] = attrs.field(default=(), init=False)
    _bounds: Bounds = attrs.field(init=False)
    _sums: dict[str, float] = attrs.field(factory=dict, init=False)
    _before: dict[str, float] | None = attrs.field(default=None, init=False)
    _first: dict[str, float] | None = attrs.field(default=None, init=False)
    _count: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if require_number("ema", self.ema, high=1.0) == 1 or require_number("rho", self.rho, high=1.0) == 1:
            msg = f"ema is {self.ema!r} and rho {self.rho!r}; with 1 nothing would ever change: give less"
            raise LossConfigError(msg)
        require_count("hold", self.hold)
        self._bounds = Bounds(low=self.min_weight, high=self.max_weight)

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the base weights.

        Raises:
            LossConfigError: If they are out of bounds, or one is 0 and the method would not leave it there.
        """
        idle = [name for name, one in base.items() if one == 0]
        if idle and not self.method.spares_zero:
            msg = (
                f"method {self.method.name!r} shares the weights among all components, so that the 0 of {idle} would "
                f"not stay; leave the component out of the loss, or take 'inverse' or 'softadapt'"
            )
            raise LossConfigError(msg)
        self._bounds.require("the loss", base)
        self._bounds.require_room(base)
        self._names = tuple(base)
        self._sums, self._before, self._first, self._count = {}, None, None, 0

    def decide(self, moment: LossMoment) -> dict[str, float]:
        """Return the weights at this step.

        Raises:
            LossConfigError: If *moment* has no losses.
        """
        if moment.losses is None:
            msg = "an adaptive schedule goes by the values of the components, and this moment has none; give its losses"
            raise LossConfigError(msg)
        before = self._before
        self._add(moment.losses)
        now = self._average()
        if self._first is None:
            self._first = now
        trail = Trail(
            base=moment.base, weights=moment.weights, now=now, before=before, first=self._first, count=self._count
        )
        self._before = now
        if self._count <= self.hold:
            return dict(moment.base)
        proposed = self.method.propose(trail)
        if proposed is None or not any(proposed.values()):
            return dict(moment.weights)
        total = math.fsum(moment.base.values())
        wanted = project(proposed, total, self._bounds if self.rho == 0 else Bounds())
        if self.rho == 0:
            return wanted
        mixed = {name: self.rho * old + (1 - self.rho) * wanted[name] for name, old in moment.weights.items()}
        return project(mixed, total, self._bounds)

    def options(self) -> dict[str, Any]:
        """Return the options it was made with."""
        found = plain_options(self)
        return {**found, "method": self.method.name, **found["method"]}

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, so far, at the step before and at the first, and how many steps and draws there were."""
        return {
            "ema": dict(self._sums),
            "prev": None if self._before is None else dict(self._before),
            "first": None if self._first is None else dict(self._first),
            "rng": self._count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            LossConfigError: If *state* is of something else.
        """
        require_keys(self.name, state, ("ema", "prev", "first", "rng"))
        count = require_count("the state's rng", state["rng"])
        if count == 0:
            for key, nothing in (("ema", {}), ("prev", None), ("first", None)):
                if state[key] != nothing:
                    msg = f"the state's {key} is {state[key]!r}, but rng says that no step was counted; {LOAD}"
                    raise LossConfigError(msg)
            self._sums, self._before, self._first, self._count = {}, None, None, 0
            return
        sums, before, first = (require_numbers(f"the state's {key}", state[key], self._names) for key in AVERAGES)
        self._sums, self._before, self._first, self._count = sums, before, first, count

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        kept = f"{self.rho:g} w + {1 - self.rho:g} " if self.rho else ""
        return f"adaptive, {self.method.name}: w <- P({kept}{self.method.explain()}), losses averaged with {self.ema:g}"

    def _add(self, losses: Mapping[str, float]) -> None:
        self._count += 1
        self._sums = {name: self.ema * self._sums.get(name, 0.0) + (1 - self.ema) * one for name, one in losses.items()}

    def _average(self) -> dict[str, float]:
        weight = 1 - self.ema**self._count
        return {name: one / weight for name, one in self._sums.items()}
