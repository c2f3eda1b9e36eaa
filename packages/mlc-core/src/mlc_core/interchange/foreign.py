"""What is found in other people's files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Foreign"]


@attrs.frozen(kw_only=True)
class Foreign:
    """What another program saved, in our words."""

    source: str
    """The name of the file or directory."""
    layout: str
    """What it was recognised as, as `a Lightning checkpoint`."""
    items: Mapping[str, Any]
    """`model`, `optimizer`, …; what has no name of ours is in `rest`, under its own."""
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    found: Mapping[str, str] = attrs.field(factory=dict)
    """What became of each part: its name in the file, and what it is now."""
    left_out: Mapping[str, str] = attrs.field(factory=dict)
    """What was not taken over, and why."""
