"""Other weights when a metric stops improving."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from mlc_hooks.hints import known_names, nearest
from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_choice, require_number
from mlc_losses.schedules.options import keep_copies, plain_options, require_count, require_keys, require_text
from mlc_losses.schedules.weights import (
    Bounds,
    equal_weights,
    project,
    require_differing,
    require_weights,
    same_weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.records import LossMoment

__all__ = ["PerformanceSchedule"]

PACE = 0.5
"""How much of the way to the target weights go at a time, where `eta` is left out."""


@attrs.define(kw_only=True, field_transformer=keep_copies)
class PerformanceSchedule:
    """Change the weights after *patience* steps in which a metric did not improve (as `ReduceLROnPlateau` does rates).

    Either w <- P((1 - eta) w + eta · target), or with *factors* w <- P(w · factor), where P restores the sum within the
    bounds. A metric that is not finite says nothing and changes nothing.

    Args:
        monitor: The name of the metric.
        mode: Whether "min" or "max" of the metric is good.
        threshold: How much better counts as better, of the best so far ("rel") or by itself ("abs").
        threshold_mode: "rel" or "abs".
        patience: How many steps without improvement are borne: the next one changes the weights.
        cooldown: For how many steps after a change nothing is counted.
        target: Where the weights go. The default is the same for all.
        eta: How much of the way they go at a time, above 0. The default is 0.5.
        factors: What each weight is multiplied by, in place of *target* and *eta*.
        min_delta: A change that moves no weight by more than this is not made.
        max_moves: How many changes there are at most.
        min_weight, max_weight: Bounds of every weight.
    """

    name: ClassVar[str] = "performance"
    needs_losses: ClassVar[bool] = False
    keeps_sum: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    patience: int = 10
    cooldown: int = 0
    target: Mapping[str, float] | None = None
    eta: float | None = None
    factors: Mapping[str, float] | None = None
    min_delta: float = 1e-8
    max_moves: int | None = None
    min_weight: float = 0.0
    max_weight: float | None = None
    _pace: float = attrs.field(default=PACE, init=False)
    _bounds: Bounds = attrs.field(init=False)
    _best: float | None = attrs.field(default=None, init=False)
    _bad: int = attrs.field(default=0, init=False)
    _resting: int = attrs.field(default=0, init=False)
    _moves: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        require_text("monitor", self.monitor)
        require_choice("mode", self.mode, ("min", "max"))
        require_choice("threshold_mode", self.threshold_mode, ("rel", "abs"))
        require_number("threshold", self.threshold)
        require_number("min_delta", self.min_delta)
        require_count("patience", self.patience)
        require_count("cooldown", self.cooldown)
        if self.max_moves is not None:
            require_count("max_moves", self.max_moves, low=1)
        if self.target is not None and self.factors is not None:
            msg = "target says where weights go and factors by how much they change; give one of the two"
            raise LossConfigError(msg)
        if self.factors is not None and self.eta is not None:
            msg = f"eta is {self.eta!r}, but it is for a target, and here are factors; give one of the two"
            raise LossConfigError(msg)
        if self.factors is None:
            self.eta = self._pace = require_number("eta", PACE if self.eta is None else self.eta, high=1.0)
            if self._pace == 0:
                msg = "eta is 0, with which no weight moves; give more, such as 0.5"
                raise LossConfigError(msg)
        self._bounds = Bounds(low=self.min_weight, high=self.max_weight)

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the base weights.

        Raises:
            LossConfigError: If the options are for other components or move nothing, or weights are out of bounds.
        """
        if self.target is not None:
            self._bounds.require("target", require_weights("target", self.target, base, keep_sum=True))
        if self.factors is not None:
            require_differing("factors", require_weights("factors", self.factors, base))
        self._bounds.require("the loss", base)
        self._bounds.require_room(base)
        self._best, self._bad, self._resting, self._moves = None, 0, 0, 0

    def decide(self, moment: LossMoment) -> dict[str, float] | None:
        """Return the weights at this step.

        Raises:
            LossConfigError: If the metric is not among those of *moment*, or it is the first step, and no move to the
                target would be greater than *min_delta*.
        """
        if moment.step == 1:
            self._require_way(moment.base)
        if self.monitor not in moment.metrics:
            close, known = nearest(self.monitor, moment.metrics), known_names("There are", moment.metrics)
            msg = (
                f"schedule 'performance' goes by the metric {self.monitor!r}, which is no number of this step.{close} "
                f"{known} Name another with 'monitor', or hand it to step(epoch, metrics)"
            )
            raise LossConfigError(msg)
        now = moment.metrics[self.monitor]
        if not math.isfinite(now):
            return None
        if self._is_better(now):
            self._best, self._bad = now, 0
        else:
            self._bad += 1
        if self._resting > 0:
            self._resting, self._bad = self._resting - 1, 0
        if self._bad <= self.patience:
            return dict(moment.weights)
        self._resting, self._bad = self.cooldown, 0
        return self._move(moment)

    def options(self) -> dict[str, Any]:
        """Return the options it was made with."""
        return plain_options(self)

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, the bad steps since, the steps of rest that are left, and the moves made."""
        return {"best": self._best, "bad": self._bad, "cooldown": self._resting, "moves": self._moves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            LossConfigError: If *state* is of something else.
        """
        require_keys(self.name, state, ("best", "bad", "cooldown", "moves"))
        best = None if state["best"] is None else require_number("the state's best", state["best"], low=-math.inf)
        bad, resting, moves = (require_count(f"the state's {one}", state[one]) for one in ("bad", "cooldown", "moves"))
        self._best, self._bad, self._resting, self._moves = best, bad, resting, moves

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        change = f"(1 - {self._pace:g}) w + {self._pace:g} target" if self.factors is None else "w factors"
        return (
            f"performance: w <- P({change}) after {self.patience} steps without a better {self.monitor} ({self.mode}, "
            f"{self.threshold_mode} {self.threshold:g}), then {self.cooldown} of rest"
        )

    def _require_way(self, base: Mapping[str, float]) -> None:
        """Refuse to go from the *base* weights to where they are; at `start` a loaded loss may be there by right."""
        if self.factors is not None:
            return
        target = self.target or equal_weights(base)
        if same_weights(target, base, slack=self.min_delta / self._pace):
            given = "the default target, the same weight for all," if self.target is None else "target"
            msg = (
                f"{given} is {dict(target)} and the base weights are {dict(base)}, so that no move would be greater "
                f"than min_delta={self.min_delta:g}; give another target, or factors"
            )
            raise LossConfigError(msg)

    def _is_better(self, now: float) -> bool:
        if self._best is None:
            return True
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * now > sign * self._best * (1 + sign * self.threshold)
        return sign * now > sign * self._best + self.threshold

    def _move(self, moment: LossMoment) -> dict[str, float]:
        old = dict(moment.weights)
        if self.max_moves is not None and self._moves >= self.max_moves:
            return old
        if self.factors is not None:
            wanted = {name: one * self.factors[name] for name, one in old.items()}
        else:
            target = self.target or equal_weights(moment.base)
            wanted = {name: (1 - self._pace) * one + self._pace * target[name] for name, one in old.items()}
        if not any(wanted.values()):
            return old
        new = project(wanted, math.fsum(moment.base.values()), self._bounds)
        if max(abs(new[name] - one) for name, one in old.items()) <= self.min_delta:
            return old
        self._moves += 1
        return new
