"""Other weights from given epochs on."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_flag
from mlc_losses.schedules.options import keep_copies, no_state, plain_options, require_count
from mlc_losses.schedules.weights import Bounds, project, require_differing, require_weights, same_weights

if TYPE_CHECKING:
    from mlc_losses.records import LossMoment

__all__ = ["StepSchedule"]

EXAMPLE = "{'milestones': {30: {'dice': 0.5, 'bce': 0.5}}} or {'step_size': 30, 'gamma': {'dice': 0.5, 'bce': 1.0}}"


@attrs.define(kw_only=True, field_transformer=keep_copies)
class StepSchedule:
    """Hold the weights between milestones and change them at once, by a table or by factors (as rates do in `StepLR`).

    Either w = v_j with j the last milestone b_j <= t, and w⁰ before the first. Or w = P(w⁰ · gamma^k) with
    k = floor(t / step_size), where P restores the sum within the bounds. Here t is how many epochs are over,
    `LossMoment.time`, so that with a milestone at 30 epoch 30, counted from 0, is the first with its weights.

    Args:
        milestones: Weights for each component, by the epoch from which on they hold. The first is 1 at the earliest:
            what holds before are the weights that the loss was made with.
        step_size: After how many epochs each component's weight is multiplied by its *gamma*, again and again.
        gamma: A factor of at least 0 for each component.
        keep_sum: Whether weights of *milestones* must have the sum of the base weights.
        min_weight, max_weight: Bounds of what comes of *gamma*.
    """

    name: ClassVar[str] = "step"
    needs_losses: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    milestones: Mapping[int | str, Mapping[str, float]] | None = None
    step_size: int | None = None
    gamma: Mapping[str, float] | None = None
    keep_sum: bool = True
    min_weight: float = 0.0
    max_weight: float | None = None
    _bounds: Bounds = attrs.field(init=False)
    _table: dict[int, Mapping[str, float]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        require_flag("keep_sum", self.keep_sum)
        self._bounds = Bounds(low=self.min_weight, high=self.max_weight)
        by_factors = self.step_size is not None and self.gamma is not None
        if (self.milestones is None) != by_factors or (self.step_size is None) != (self.gamma is None):
            given = {key: value for key, value in plain_options(self).items() if value is not None}
            msg = f"schedule 'step' has {given}; give milestones, or both step_size and gamma: {EXAMPLE}"
            raise LossConfigError(msg)
        if self.milestones is None:
            require_count("step_size", self.step_size, low=1)
            if not self.keep_sum:
                msg = (
                    "keep_sum=False lets milestones have another sum, but what comes of gamma always has that of the "
                    "base weights; leave keep_sum out, or give milestones"
                )
                raise LossConfigError(msg)
            return
        if self._bounds != Bounds():
            msg = (
                "min_weight and max_weight bound what comes of gamma; milestones say weights themselves: leave them out"
            )
            raise LossConfigError(msg)
        self._table = _read_table(self.milestones)

    @property
    def keeps_sum(self) -> bool:
        """Whether the weights always have the sum of the base weights."""
        return self.keep_sum or self.milestones is None

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the base weights.

        Raises:
            LossConfigError: If the options are for other components, or weights have another sum.
        """
        for step, weights in self._table.items():
            require_weights(f"milestones[{step}]", weights, base, keep_sum=self.keep_sum)
        if self.gamma is not None:
            factors = require_weights("gamma", self.gamma, base)
            require_differing("gamma", factors)
            self._bounds.require_room(base)

    def decide(self, moment: LossMoment) -> dict[str, float]:
        """Return the weights at this time.

        Raises:
            LossConfigError: If it is the first step, and all milestones have the base weights.
        """
        # not in start: a loss that was loaded after the milestones has their weights until the state is loaded
        if moment.step == 1 and self._table and all(same_weights(one, moment.base) for one in self._table.values()):
            msg = (
                f"milestones have the weights {dict(moment.base)}, as before the first, so none would move; give others"
            )
            raise LossConfigError(msg)
        if self.gamma is None or self.step_size is None:
            passed = bisect.bisect_right(list(self._table), moment.time)
            return {name: float(one) for name, one in [moment.base, *self._table.values()][passed].items()}
        times = moment.time // self.step_size
        if times == 0:
            return dict(moment.base)
        top = max(self.gamma.values())  # all factors over the greatest: no power overflows, and P cancels it
        grown = {name: weight * (self.gamma[name] / top) ** times for name, weight in moment.base.items()}
        if not any(grown.values()):
            return dict(moment.weights)
        return project(grown, math.fsum(moment.base.values()), self._bounds)

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
        if self.gamma is not None:
            factors = ", ".join(f"{one:g} for {name}" for name, one in self.gamma.items())
            return f"step: w = P(w0 gamma^floor(t / {self.step_size})), gamma = {factors}"
        rows = [
            f"  from {step}: {' + '.join(f'{one:g}·{name}' for name, one in weights.items())}"
            for step, weights in self._table.items()
        ]
        return "\n".join(["step: w = w0 before the first milestone", *rows])


def _read_table(table: object) -> dict[int, Mapping[str, float]]:
    """Return *table* by step, in order."""
    if not isinstance(table, Mapping) or not table:
        msg = f"milestones is {table!r}; give weights by epoch: {EXAMPLE}"
        raise LossConfigError(msg)
    read = {_read_step(key): weights for key, weights in table.items()}
    if len(read) < len(table):
        msg = f"milestones are at {list(table)}, one of them twice; give each epoch once"
        raise LossConfigError(msg)
    return dict(sorted(read.items()))


def _read_step(key: object) -> int:
    """Return the step that *key* says; JSON has text for keys."""
    step = int(key) if isinstance(key, str) and key.isdecimal() else key
    if step == 0 and not isinstance(step, bool):
        msg = "a milestone is at 0; what holds from the start are the weights that the loss is made with: set those"
        raise LossConfigError(msg)
    return require_count("a milestone", step, low=1)
