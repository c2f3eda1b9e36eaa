"""From the base weights to others along half a cosine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_flag, require_number
from mlc_losses.schedules.options import keep_copies, no_state, plain_options, require_count
from mlc_losses.schedules.weights import equal_weights, require_weights, same_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.records import LossMoment

__all__ = ["CosineSchedule"]


@attrs.define(kw_only=True, field_transformer=keep_copies)
class CosineSchedule:
    """Go from the base weights w⁰ to the end weights e, slowly at both ends (Loshchilov & Hutter 2017, for rates).

    w = e + (w⁰ - e) (1 + cos πτ) / 2 with τ = (t - warmup) / steps between 0 and 1, where t is how many epochs
    are over: `LossMoment.time`. At τ = 0 that is w⁰ to the bit, and e from τ = 1 on.

    Args:
        steps: How many epochs the way takes, after those of the warm-up.
        end: The weight of each component at the end. The default is the same for all.
        warmup: For how many epochs the base weights stay.
        cycles: How often the way is gone; all but the last go back to the base weights at once. `None` is for ever.
        period_multiplier: How much longer each way is than the one before.
        keep_sum: Whether *end* must have the sum of the base weights, so that the learning rate keeps its meaning.
    """

    name: ClassVar[str] = "cosine"
    needs_losses: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    steps: int = 100
    end: Mapping[str, float] | None = None
    warmup: int = 0
    cycles: int | None = 1
    period_multiplier: float = 1.0
    keep_sum: bool = True
    _end: dict[str, float] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        require_count("steps", self.steps, low=1)
        require_count("warmup", self.warmup)
        require_flag("keep_sum", self.keep_sum)
        if self.cycles is not None:
            require_count("cycles", self.cycles, low=1)
        require_number("period_multiplier", self.period_multiplier, low=1.0)
        if self.cycles == 1 and self.period_multiplier != 1:
            msg = (
                f"period_multiplier is {self.period_multiplier:g}, but cycles is 1 and there is no second way to make "
                f"longer; give more cycles (None is for ever), or leave period_multiplier out"
            )
            raise LossConfigError(msg)
        if not self.keep_sum and self.end is None:
            msg = (
                "keep_sum=False lets end have another sum, but there is no end, and the default keeps the sum; give "
                "end, or leave keep_sum out"
            )
            raise LossConfigError(msg)

    @property
    def keeps_sum(self) -> bool:
        """Whether the weights always have the sum of the base weights."""
        return self.keep_sum or self.end is None

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the base weights.

        Raises:
            LossConfigError: If the end weights are not for the same components, or have another sum.
        """
        end = equal_weights(base) if self.end is None else self.end
        self._end = require_weights("end", end, base, keep_sum=self.keeps_sum)

    def decide(self, moment: LossMoment) -> dict[str, float]:
        """Return the weights at this time.

        Raises:
            LossConfigError: If it is the first step, and the end weights are the base weights.
        """
        # not in start: a loss that was loaded at the end of the way has the end weights until the state is loaded
        if moment.step == 1 and same_weights(self._end, moment.base):
            given = "the default end, the same weight for all," if self.end is None else "end"
            msg = f"{given} is {self._end}, which the base weights are already, so none would move; give another end"
            raise LossConfigError(msg)
        left = self._measure(moment.time)
        base = math.sin(math.pi * (0.5 - left)) / 2 + 0.5  # (1 + cos πτ) / 2, exact at 0, ½ and 1
        return {name: self._end[name] * (1 - base) + moment.base[name] * base for name in moment.base}

    def options(self) -> dict[str, Any]:
        """Return the options it was made with."""
        return plain_options(self)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the time and the base weights are all there is to know."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing.

        Raises:
            LossConfigError: If there is something.
        """
        no_state(self.name, state)

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        end = " + ".join(f"{weight:g}·{name}" for name, weight in self._end.items()) or "equal weights"
        more = (
            "" if self.cycles == 1 else f", {self.cycles or 'endless'} cycles, each {self.period_multiplier:g}x longer"
        )
        return (
            f"cosine: w = e + (w0 - e) (1 + cos(pi tau)) / 2, tau = (t - {self.warmup}) / {self.steps} in 0..1{more}, "
            f"e = {end}"
        )

    def _measure(self, time: int) -> float:
        """Return which fraction of the way lies behind."""
        done, length = float(time - self.warmup), float(self.steps)
        if done <= 0:
            return 0.0
        cycle = 1
        while done >= length:
            if cycle == self.cycles:
                return 1.0
            done, length, cycle = done - length, length * self.period_multiplier, cycle + 1
        return done / length
