"""The part of an error that helps: what is close, and what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["known_names", "nearest"]


def nearest(name: str, known: Collection[str]) -> str:
    """Return " Did you mean 'x'?", or nothing when nothing is close to *name*."""
    import difflib  # half a millisecond that only a mistake should cost

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def known_names(label: str, known: Collection[str]) -> str:
    """Return "*label*: a, b, c.", or that there are none."""
    return f"{label}: {', '.join(sorted(known)) or 'none'}."
