"""Keeping many new checkpoints and few old ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.retention.checks import at_least_one, check_length, one_of
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Saved

__all__ = ["KeepSpaced"]

DEFAULT = {100: 10, 1000: None}


def _read_levels(value: Any) -> tuple[tuple[float, int | None], ...]:
    if not isinstance(value, Mapping):
        msg = f"each={value!r} must say how many spans of each length, as {{100: 10, 1000: None}}; None means all"
        raise ConfigurationError(msg)
    return tuple(sorted(value.items()))


@attrs.frozen(kw_only=True)
class KeepSpaced(Composable):
    """Keep the *newest*, then the last of each span of so many steps, epochs, or hours of running time.

    `KeepSpaced(newest=2, each={100: 10, 1000: None}, unit="steps")` keeps the 2 newest, the last of each 100 steps for
    the 10 newest hundreds in which something was saved, and the last of each 1000 steps for ever. A span of 100 steps
    is 0–99, 100–199, …; what is last and new is a matter of commits, so what was trained again replaces the older one.
    """

    newest: int = attrs.field(default=2, validator=at_least_one)
    each: tuple[tuple[float, int | None], ...] = attrs.field(default=DEFAULT, converter=_read_levels)
    unit: Literal["epochs", "steps", "hours"] = "steps"

    def __attrs_post_init__(self) -> None:
        one_of("unit", self.unit, ("epochs", "steps", "hours"))
        for length, count in self.each:
            check_length("each length", length, whole=self.unit != "hours")
            if count is not None:
                check_length("each number of spans", count, whole=True)

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep the last of each span."""
        word = "the newest" if self.newest == 1 else f"one of the {self.newest} newest"
        kept = {one.id: word for one in saved[-self.newest :]}
        placed = self._placed(saved)
        for length, count in self.each:
            for span, key in self._last_of_each(placed, length, count).items():
                reason = self._describe(span, length)
                kept[key] = f"{kept[key]}; {reason}" if key in kept else reason
        return kept

    def _placed(self, saved: Sequence[Saved]) -> list[tuple[float, str]]:
        """Return where each one lies and its id, oldest first."""
        if self.unit == "steps":
            return [(one.step, one.id) for one in saved if one.step is not None]
        if self.unit == "epochs":
            return [(one.epoch, one.id) for one in saved if one.epoch is not None]
        return [(one.elapsed / 3600, one.id) for one in saved]

    @staticmethod
    def _last_of_each(placed: Sequence[tuple[float, str]], length: float, count: int | None) -> Mapping[int, str]:
        if count is None:
            return {int(place // length): key for place, key in placed}
        found: dict[int, str] = {}
        for place, key in reversed(placed):
            found.setdefault(int(place // length), key)
            if len(found) >= count:
                break
        return found

    def _describe(self, span: int, length: float) -> str:
        if self.unit == "hours":
            return f"the last of hours {span * length:g} to {(span + 1) * length:g}"
        first, last = math.trunc(span * length), math.trunc((span + 1) * length) - 1
        return f"the last of {self.unit} {first}–{last}" if first < last else f"the last of {self.unit[:-1]} {first}"
