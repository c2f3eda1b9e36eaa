"""Keeping what is nearly as good as the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from mlc_core.records import Monitor
from mlc_core.retention.checks import not_negative
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.records import Mode, Saved

__all__ = ["KeepWithin"]


@attrs.frozen(kw_only=True)
class KeepWithin(Composable):
    """Keep every checkpoint whose *metric* is within *tolerance* of the best.

    *tolerance* is the difference itself, or with *relative* a share of the best value. NaN and a missing metric are
    never within it, and where the best is infinite only its equals are.
    """

    metric: str
    mode: Mode
    tolerance: float = attrs.field(validator=not_negative)
    relative: bool = False

    def __attrs_post_init__(self) -> None:
        Monitor(metric=self.metric, mode=self.mode)

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the best and what is close to it."""
        metric = self.metric
        measured = [(one.id, value) for one in saved if (value := one.metrics.get(metric)) is not None]
        numbers = [value for _, value in measured if value == value]  # noqa: PLR0124  NaN is not itself
        if not numbers:
            return {}
        best = max(numbers) if self.mode == "max" else min(numbers)
        allowed = self.tolerance * (abs(best) if self.relative else 1)
        if math.isinf(best):
            allowed = 0.0
        reason = f"within {self._shown} of the best {metric} ({best:.6g})"
        return {key: reason for key, value in measured if value == best or abs(value - best) <= allowed}

    @property
    def _shown(self) -> str:
        return f"{self.tolerance * 100:g} %" if self.relative else f"{self.tolerance:g}"
