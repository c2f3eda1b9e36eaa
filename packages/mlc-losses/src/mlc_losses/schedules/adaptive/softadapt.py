"""More weight for what falls the least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_flag, require_number
from mlc_losses.schedules.adaptive.trail import slope, softmax
from mlc_losses.schedules.options import keep_copies

if TYPE_CHECKING:
    from mlc_losses.schedules.adaptive.trail import Trail

__all__ = ["SoftAdapt"]


@attrs.frozen(kw_only=True, field_transformer=keep_copies)
class SoftAdapt:
    """Weigh each component by the slope s of its loss: ŵ ∝ w⁰ · exp(beta (s - max s)) (Heydari et al. 2019).

    The slope is the average loss now minus that of the step before; at the first step the base weights hold.

    Dice, cross entropy and focal loss are views of one objective and fall together: with slopes far below 1, as they
    are per epoch, the weights hardly move. A greater *beta* moves them more; "inverse" is the default for this reason.

    Args:
        beta: How much a slope matters. Below 0, what falls the most gets more weight.
        loss_weighted: Whether the average loss is a factor too: ŵ ∝ w⁰ · l̄ · exp(...).
    """

    name: ClassVar[str] = "softadapt"
    default_ema: ClassVar[float] = 0.0
    default_rho: ClassVar[float | None] = 0.0
    spares_zero: ClassVar[bool] = True

    beta: float = 0.1
    loss_weighted: bool = False

    def __attrs_post_init__(self) -> None:
        if require_number("beta", self.beta, low=-math.inf) == 0 and not self.loss_weighted:
            msg = "beta is 0, with which no slope matters and no weight moves; give a number such as 0.1"
            raise LossConfigError(msg)
        require_flag("loss_weighted", self.loss_weighted)

    def propose(self, trail: Trail) -> dict[str, float] | None:
        """Return weights in proportion, or `None` at the first step."""
        if trail.before is None:
            return None
        shares = softmax({name: self.beta * slope(one, trail.before[name]) for name, one in trail.now.items()})
        if self.loss_weighted:
            shares = {name: abs(trail.now[name]) * share for name, share in shares.items()}
        return {name: trail.base[name] * share for name, share in shares.items()}

    def explain(self) -> str:
        """Return the formula with its options, for people."""
        return f"w0 {'|l| ' if self.loss_weighted else ''}exp({self.beta:g} (s - max s)), s = l(t) - l(t-1)"
