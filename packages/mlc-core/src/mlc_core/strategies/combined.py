"""Several strategies as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.strategies.memory import recall, remember

if TYPE_CHECKING:
    from mlc_core.protocols import SaveStrategy
    from mlc_core.records import Moment

__all__ = ["AnyOf"]


@attrs.frozen
class AnyOf:
    """Save when any of *strategies* would; each is asked each time, so that those with a memory miss nothing."""

    strategies: tuple[SaveStrategy, ...]

    def should_save(self, moment: Moment) -> str | None:
        """Give all their reasons."""
        reasons = [strategy.should_save(moment) for strategy in self.strategies]
        return "; ".join(reason for reason in reasons if reason) or None

    def state_dict(self) -> dict[str, Any]:
        """Return what each one remembers, in their order."""
        return {"parts": [remember(one) for one in self.strategies]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each one its state back; one that was not here before begins anew."""
        for one, stored in zip(self.strategies, state["parts"], strict=False):
            recall(one, stored)
