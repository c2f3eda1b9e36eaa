"""A function of one's own as a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.stateless import Stateless

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.records import Moment

__all__ = ["FromFunction"]


@attrs.frozen
class FromFunction(Stateless):
    """Save when *function* says so: it is given the moment and returns why, or whether, to save.

    ::

        def improved_or_every_ten(moment):
            return moment.improved or moment.epoch % 10 == 0

    It is not asked when an exception ends the training; join it to `OnException` for that. What it raises ends the
    save.
    """

    function: Callable[[Moment], object] = attrs.field()

    @function.validator
    def _check_function(self, _: object, value: object) -> None:
        if not callable(value):
            msg = f"{value!r} is no function of a moment"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Give its reason, in one line, or its name if it gives none."""
        if moment.exception is not None:
            return None
        answer = self.function(moment)
        if isinstance(answer, str):
            return " ".join(answer.split()) or None
        return f"{_name(self.function)} says so" if answer else None


def _name(function: object) -> str:
    found = getattr(function, "__name__", type(function).__name__)
    return "the given function" if found == "<lambda>" else str(found)
