"""Several strategies as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

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
        """Return each one's state, by position."""
        return {str(position): one.state_dict() for position, one in enumerate(self.strategies)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each one its state back."""
        for position, one in enumerate(self.strategies):
            one.load_state_dict(state.get(str(position), {}))
