"""Keeping by age, in running time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.retention.checks import not_negative
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.records import Saved

__all__ = ["KeepRecent"]


@attrs.frozen(kw_only=True)
class KeepRecent(Composable):
    """Keep what was saved in the last *hours* of running time before the latest checkpoint, and that one.

    A run that stands still loses nothing, and no clock can make it.
    """

    hours: float = attrs.field(validator=not_negative)

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the young ones."""
        if not saved:
            return {}
        since = saved[-1].elapsed - self.hours * 3600
        reason = f"saved in the last {self.hours:g} hours of running time"
        return {one.id: reason for one in saved if one.elapsed >= since}
