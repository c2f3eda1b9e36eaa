"""Saving what an exception would lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.strategies.checks import read_names
from mlc_core.strategies.stateless import Stateless

if TYPE_CHECKING:
    from mlc_core.records import Moment

__all__ = ["OnException"]


@attrs.frozen(kw_only=True)
class OnException(Stateless):
    """Save when an exception ends the training: any, or those whose class names are in *only*, and none in *ignore*.

    The other strategies are silent then, for what they count has not come.
    """

    only: tuple[str, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(read_names))
    ignore: tuple[str, ...] = attrs.field(default=(), converter=read_names)

    def should_save(self, moment: Moment) -> str | None:
        """Say which exception it is."""
        name = moment.exception
        if name is None or name in self.ignore or (self.only is not None and name not in self.only):
            return None
        return f"{name} ends the training"
