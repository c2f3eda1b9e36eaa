"""Strategies that count epochs and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.stateless import Stateless

if TYPE_CHECKING:
    from mlc_core.records import Moment
    from mlc_core.strategies.checks import Unit

__all__ = ["Epoch", "Interval"]


@attrs.frozen
class Epoch(Stateless):
    """Save at the end of every epoch."""

    epoch_ends_only: ClassVar[bool] = True

    def should_save(self, moment: Moment) -> str | None:
        """Say whether an epoch ended."""
        return "end of the epoch" if moment.epoch_ended and moment.exception is None else None


@attrs.frozen(kw_only=True)
class Interval(Stateless):
    """Save every *every* epochs, or steps."""

    every: int = attrs.field(default=5)
    unit: Unit = attrs.field(default="epochs")

    def __attrs_post_init__(self) -> None:
        if self.every < 1 or self.unit not in {"epochs", "steps"}:
            msg = f"every={self.every!r} must be 1 or more and unit={self.unit!r} must be 'epochs' or 'steps'"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Say whether the count is a multiple; epochs count when they end."""
        count = moment.step if self.unit == "steps" else moment.epoch if moment.epoch_ended else None
        if not count or count % self.every or moment.exception is not None:
            return None
        return f"every {self.every} {self.unit}"
