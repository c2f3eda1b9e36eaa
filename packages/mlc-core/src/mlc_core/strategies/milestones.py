"""Saving at counts that were chosen in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.checks import known_unit
from mlc_core.strategies.stateful import Stateful, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlc_core.records import Moment
    from mlc_core.strategies.checks import Unit

__all__ = ["Milestones"]


def _read_counts(value: Any) -> tuple[int, ...]:
    found = () if isinstance(value, str) else tuple(value)
    if isinstance(value, str) or any(type(one) is not int or one < 0 for one in found):
        msg = f"at={value!r} must be a list of whole numbers from 0, as [100, 1000]"
        raise ConfigurationError(msg)
    return tuple(sorted(set(found)))


@attrs.define(kw_only=True)
class Milestones(Stateful):
    """Save at the steps *at*, at 1, 2, 4, … up to *doubling_to*, and at all multiples of *every*; or at such epochs.

    `Milestones(at=[0], doubling_to=512, every=1000)` is how the Pythia models were saved. A milestone that lies between
    two moments is saved at the later one.
    """

    at: tuple[int, ...] = attrs.field(default=(), converter=_read_counts)
    doubling_to: int | None = None
    every: int | None = None
    unit: Unit = attrs.field(default="steps", validator=known_unit)
    _last: int | None = attrs.field(default=None, init=False, eq=False, repr=False, validator=number)

    def __attrs_post_init__(self) -> None:
        for name, value in (("doubling_to", self.doubling_to), ("every", self.every)):
            if value is not None and (type(value) is not int or value < 1):
                msg = f"{name}={value!r} must be a whole number, 1 or more"
                raise ConfigurationError(msg)
        if not self.at and self.doubling_to is None and self.every is None:
            msg = "no milestones are given; say at=[100, 1000], doubling_to=512, every=1000, or several of them"
            raise ConfigurationError(msg)

    def should_save(self, moment: Moment) -> str | None:
        """Say which milestone was reached; epochs count when they end."""
        now = moment.step if self.unit == "steps" else moment.epoch if moment.epoch_ended else None
        if now is None or moment.exception is not None:
            return None
        before = now - 1 if self._last is None or self._last > now else self._last  # what is trained again counts again
        self._last = now
        reached = max((one for one in self._until(now) if before < one), default=None)
        return None if reached is None else f"milestone {reached:,} {self.unit}"

    def _until(self, now: int) -> Iterable[int]:
        """Yield, of each kind, the last milestone until *now*."""
        yield from [one for one in self.at if one <= now][-1:]
        if self.doubling_to is not None and now > 0:
            yield 1 << (min(now, self.doubling_to).bit_length() - 1)
        if self.every is not None and now >= self.every:
            yield now - now % self.every
