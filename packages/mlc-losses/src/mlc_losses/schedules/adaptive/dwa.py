"""Dynamic weight average."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from mlc_losses.options import require_number
from mlc_losses.schedules.adaptive.trail import ratio, softmax
from mlc_losses.schedules.options import keep_copies

if TYPE_CHECKING:
    from mlc_losses.schedules.adaptive.trail import Trail

__all__ = ["DynamicWeightAverage"]


@attrs.frozen(kw_only=True, field_transformer=keep_copies)
class DynamicWeightAverage:
    """Weigh each component by how much of its loss is left: ŵ = S · softmax(r / temperature) (Liu et al. 2019).

    r is the average loss of the last step over that of the one before, S the sum of the base weights. While the first
    two losses are gathered the base weights hold: those of the first step, and those until the second.

    Dice, cross entropy and focal loss are views of one objective and fall together: their r are all near 1, and
    softmax hardly moves the weights from equal ones. "inverse" is the default for this reason.

    Args:
        temperature: The greater, the more equal the weights.
    """

    name: ClassVar[str] = "dwa"
    default_ema: ClassVar[float] = 0.0
    default_rho: ClassVar[float | None] = 0.0
    spares_zero: ClassVar[bool] = False

    temperature: float = 2.0

    def __attrs_post_init__(self) -> None:
        require_number("temperature", self.temperature, low=1e-6)

    def propose(self, trail: Trail) -> dict[str, float] | None:
        """Return weights in proportion, or `None` at the first step."""
        before = trail.before
        if before is None:
            return None
        rates = {name: ratio(one, before[name], eps=1e-12) for name, one in trail.now.items()}
        return softmax({name: rate / self.temperature for name, rate in rates.items()})

    def explain(self) -> str:
        """Return the formula with its options, for people."""
        return f"S softmax(l(t) / l(t-1) / {self.temperature:g})"
