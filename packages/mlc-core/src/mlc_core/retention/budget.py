"""Keeping what there is room for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.records import Monitor
from mlc_core.retention.combined import Composable
from mlc_core.retention.ranking import rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlc_core.records import Mode, Saved

__all__ = ["KeepWithinBudget", "read_size"]

SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kKMGT]?i?)B")
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_size(value: Any) -> int:
    """Return *value* in bytes: a number of them, or as `50GB` (1000³ each) or `50 GiB` (1024³ each).

    Raises:
        ConfigurationError: If it is neither, or nothing fits into it.
    """
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        unit = found["unit"].lower()
        size = int(float(found["number"]) * (1024 if unit.endswith("i") else 1000) ** POWERS[unit.removesuffix("i")])
    else:
        size = value if type(value) is int else 0
    if size < 1:
        msg = f"size={value!r} must be a number of bytes above 0, or a text as '50GB', '800 MB' or '1.5TiB'"
        raise ConfigurationError(msg)
    return size


@attrs.frozen(kw_only=True)
class KeepWithinBudget(Composable):
    """Keep what fits into *size* together: the latest, then the best first, or the newest first without a *metric*.

    *size* is a number of bytes or a text as `50GB`. A file that several checkpoints share takes its bytes once, as on
    the disk. The first one that does not fit, and all behind it, are not kept; the latest is, whatever its size. Those
    without a number for the metric come after all others, newest first.
    """

    size: int = attrs.field(converter=read_size)
    metric: str | None = None
    mode: Mode | None = None

    def __attrs_post_init__(self) -> None:
        if (self.metric is None) != (self.mode is None):
            msg = f"metric={self.metric!r} and mode={self.mode!r} go together"
            raise ConfigurationError(msg)
        list(self._in_order([]))  # refuses a wrong mode now

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep from the front until the budget is used."""
        kept: dict[str, str] = {}
        there: set[tuple[str, int]] = set()
        used = 0
        for one in self._in_order(saved):
            if one.id in kept:
                continue
            files = {(file.xxh3_128, file.size) for file in one.files} - there
            used += sum(size for _, size in files)
            if used > self.size and kept:
                break
            there |= files
            what = f"{used:,} of {self.size:,} bytes with those before it"
            kept[one.id] = f"fits into the budget: {what}" if used <= self.size else "the latest, above the budget"
        return kept

    def _in_order(self, saved: Sequence[Saved]) -> Iterator[Saved]:
        """Yield all of *saved*, some of them twice."""
        yield from saved[-1:]
        if self.metric is not None and self.mode is not None:
            yield from rank(saved, Monitor(metric=self.metric, mode=self.mode))
        yield from reversed(saved)
