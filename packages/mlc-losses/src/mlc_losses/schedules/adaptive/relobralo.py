"""Relative loss balancing with random lookback."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number
from mlc_losses.schedules.adaptive.trail import draw, ratio, softmax
from mlc_losses.schedules.options import keep_copies, require_integer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.schedules.adaptive.trail import Trail

__all__ = ["ReLoBRaLo"]


@attrs.frozen(kw_only=True, field_transformer=keep_copies)
class ReLoBRaLo:
    """Weigh by what is left of each loss, since the last step and at times since the first (Bischof & Kraus 2021).

    w = alpha (rho w + (1 - rho) λ(first)) + (1 - alpha) λ(last), where λ(a) = S · softmax(l(t) / (temperature · l(a)))
    and rho is 1 with probability *lookback*, else 0. S is the sum of the base weights, which hold at the first step.

    The random numbers follow from *seed* and a counter: they touch no other generator and go on after a restart.

    Dice, cross entropy and focal loss are views of one objective and fall together, so λ is all but equal for all of
    them. "inverse" is the default for this reason.

    Args:
        alpha: How much of the past stays.
        lookback: The probability that the past is the last weights and not the first losses.
        temperature: The greater, the more equal the weights.
        seed: Another seed, other random numbers.
    """

    name: ClassVar[str] = "relobralo"
    default_ema: ClassVar[float] = 0.0
    default_rho: ClassVar[float | None] = None
    spares_zero: ClassVar[bool] = False

    alpha: float = 0.95
    lookback: float = 0.99
    temperature: float = 1.0
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        require_number("alpha", self.alpha, high=1.0)
        require_number("lookback", self.lookback, high=1.0)
        require_number("temperature", self.temperature, low=1e-6)
        require_integer("seed", self.seed)
        if self.alpha == 1 and self.lookback == 1:
            msg = "alpha and lookback are both 1, with which the weights always stay; give less for one of them"
            raise LossConfigError(msg)

    def propose(self, trail: Trail) -> dict[str, float] | None:
        """Return weights in proportion, or `None` at the first step."""
        if trail.before is None:
            return None
        total = math.fsum(trail.base.values())
        last = self._balance(trail.now, trail.before)
        stays = draw(self.seed, trail.count) < self.lookback
        past = trail.weights if stays else {n: total * one for n, one in self._balance(trail.now, trail.first).items()}
        return {name: self.alpha * past[name] + (1 - self.alpha) * total * one for name, one in last.items()}

    def explain(self) -> str:
        """Return the formula with its options, for people."""
        return (
            f"{self.alpha:g} (rho w + (1 - rho) L(first)) + {1 - self.alpha:g} L(last), "
            f"L(a) = S softmax(l(t) / l(a) / {self.temperature:g}), rho = 1 with probability {self.lookback:g}"
        )

    def _balance(self, now: Mapping[str, float], then: Mapping[str, float]) -> dict[str, float]:
        return softmax({name: ratio(one, then[name], eps=1e-12) / self.temperature for name, one in now.items()})
