"""Weights that are learnt with the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.schedules.options import no_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.records import LossMoment

__all__ = ["UncertaintySchedule"]


@attrs.define(kw_only=True)
class UncertaintySchedule:
    """Learn the weights: the loss becomes the sum of e^-s l / 2 + s / 2, with a parameter s each (Kendall et al. 2018).

    The weight of a component is e^-s / 2. It starts at the base weight, and is best where e^s = l: the method also
    ends up at the inverse of the losses, at the pace of the optimizer. The sum is not kept, and a loss that vanishes
    lets its weight grow without bound.

    The parameters are the loss's. Hand the optimizer to `LossScheduler.train_with`, which adds them to it. With
    `DistributedDataParallel` let the loss be part of the module that it wraps, so that their gradients are averaged.

    Dice, cross entropy and focal loss are views of one objective, not tasks with noise of their own; "inverse" gets to
    the same ratio without anything to learn.
    """

    name: ClassVar[str] = "adaptive"
    needs_losses: ClassVar[bool] = False
    keeps_sum: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the base weights.

        Raises:
            LossConfigError: If one is 0, which no s gives.
        """
        idle = [name for name, one in base.items() if one == 0]
        if idle:
            msg = f"method 'uncertainty' gives no component a weight of 0, as {idle} have; leave them out of the loss"
            raise LossConfigError(msg)

    def decide(self, moment: LossMoment) -> dict[str, float]:
        """Return the weights as they are: the optimizer moves them."""
        return dict(moment.weights)

    def options(self) -> dict[str, Any]:
        """Return the options it was made with."""
        return {"method": "uncertainty"}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the parameters are all there is to know."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing.

        Raises:
            LossConfigError: If there is something.
        """
        no_state(self.name, state)

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        return "adaptive, uncertainty: loss = sum of exp(-s) l / 2 + s / 2, s learnt, w = exp(-s) / 2"
