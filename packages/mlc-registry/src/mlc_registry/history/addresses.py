"""What may be shown of the address of a database or a listener: everything but its secrets."""

from __future__ import annotations

import re

__all__ = ["hide_secrets"]

# Up to the last @: a password that should have been percent-encoded is hidden whole.
PASSWORD = re.compile(r"(?<=://)([^:@/]*):.*@", re.DOTALL)


def hide_secrets(address: str) -> str:
    """Return *address* without its password and its query, in which there may be another; a path stays as it is."""
    if "://" not in address:
        return address
    shown, query, _ = PASSWORD.sub(r"\1:***@", address).partition("?")
    return f"{shown}?..." if query else shown
