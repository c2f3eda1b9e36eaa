"""What a strategy remembers, kept with the name of its class, so that no other one takes it for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import SaveStrategy

__all__ = ["recall", "remember"]


def remember(strategy: SaveStrategy) -> dict[str, Any]:
    """Return the state of *strategy* and whose it is, as plain data."""
    return {"kind": _kind(strategy), "state": strategy.state_dict()}


def recall(strategy: SaveStrategy, stored: Mapping[str, Any]) -> None:
    """Let *strategy* go on from what was *stored*, if one of its kind did so; else leave it as it is."""
    if stored.get("kind") == _kind(strategy):
        strategy.load_state_dict(stored["state"])


def _kind(strategy: SaveStrategy) -> str:
    return f"{type(strategy).__module__}.{type(strategy).__qualname__}"
