"""The half of the protocol that strategies without a memory share."""

from __future__ import annotations

from typing import Any

from mlc_core.strategies.combined import Composable

__all__ = ["Stateless"]


class Stateless(Composable):
    """Decides from the moment alone: everything it needs to know is in the index."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""
