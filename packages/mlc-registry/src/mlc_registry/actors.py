"""Who is at work, for the history."""

from __future__ import annotations

import getpass

from mlc_registry.requirements import require_said

__all__ = ["check_reason", "name_actor"]


def name_actor(actor: str | None) -> str:
    """Return *actor*, or the user of this process if it is None.

    Raises:
        InvalidMetadataError: If *actor* is no text, or says nothing.
    """
    if actor is not None:
        return require_said(actor, "actor")
    try:
        return getpass.getuser().strip() or "unknown"
    except (ImportError, KeyError, OSError):  # a container may run as a number that has no name
        return "unknown"


def check_reason(reason: str, *, needed: bool = False) -> str:
    """Return *reason* if it says something, or, unless it is *needed*, if it is left out: "".

    Raises:
        InvalidMetadataError: If it is no text, or blank.
    """
    return reason if reason == "" and not needed else require_said(reason, "reason")
