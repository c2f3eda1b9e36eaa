"""How to weigh: each component takes its turn with each weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_losses import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses import LossMoment


class Rotation:
    """Hands the base weights on from one component to the next. It remembers nothing: the time says it all."""

    name = "rotation"
    needs_losses = False
    keeps_sum = True
    learns = False

    def __init__(self, *, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            msg = f"every is {every!r}; give a number of epochs, 1 or more"
            raise LossConfigError(msg)
        self._every = every

    def start(self, base: Mapping[str, float]) -> None:
        """Take any weights."""

    def decide(self, moment: LossMoment) -> Mapping[str, float]:
        """Return the base weights, each so many places further as there were turns."""
        names = list(moment.base)
        turns = moment.time // self._every
        return {name: moment.base[names[(place - turns) % len(names)]] for place, name in enumerate(names)}

    def options(self) -> Mapping[str, Any]:
        """Return the options it was made with."""
        return {"every": self._every}

    def state_dict(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing."""
        if state:
            msg = f"a rotation remembers nothing, but the state has {sorted(state)}"
            raise LossConfigError(msg)

    def explain(self) -> str:
        """Return the rule with its numbers."""
        return f"rotation: the base weights move on by one component every {self._every} epochs"
