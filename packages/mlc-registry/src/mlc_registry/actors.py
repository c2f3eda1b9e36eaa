"""Who is at work, for the history."""

from __future__ import annotations

import getpass

__all__ = ["name_actor"]


def name_actor(actor: str | None) -> str:
    """Return *actor*, or the user of this process if it is None."""
    if actor is not None:
        return actor
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run as a number that has no name
        return "unknown"
