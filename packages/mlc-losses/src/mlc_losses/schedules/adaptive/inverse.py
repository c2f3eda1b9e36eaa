"""Equal contributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from mlc_losses.options import require_number
from mlc_losses.schedules.options import keep_copies

if TYPE_CHECKING:
    from mlc_losses.schedules.adaptive.trail import Trail

__all__ = ["Inverse"]


@attrs.frozen(kw_only=True, field_transformer=keep_copies)
class Inverse:
    """Weigh each component by the inverse of its average loss: `ŵ ∝ w⁰ / (|l̄| + eps)`.

    Then weight times loss is in the ratio of the base weights: 60/40 means 60 % and 40 % of the value. This is the
    default because Dice, cross entropy and focal loss are views of one objective that fall together: methods that
    compare how fast components fall hardly move their weights.

    Args:
        eps: What is added to each loss, so that one that vanishes does not take everything.
    """

    name: ClassVar[str] = "inverse"
    default_ema: ClassVar[float] = 0.5
    default_rho: ClassVar[float | None] = 0.5
    spares_zero: ClassVar[bool] = True

    eps: float = 1e-8

    def __attrs_post_init__(self) -> None:
        require_number("eps", self.eps, low=1e-300)

    def propose(self, trail: Trail) -> dict[str, float]:
        """Return weights in proportion."""
        return {name: one / (abs(trail.now[name]) + self.eps) for name, one in trail.base.items()}

    def explain(self) -> str:
        """Return the formula with its options, for people."""
        return f"w0 / (|l| + {self.eps:g})"
