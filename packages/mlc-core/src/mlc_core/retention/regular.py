"""Keeping at regular counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from mlc_core.retention.checks import at_least_one, one_of
from mlc_core.retention.combined import Composable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.records import Saved

__all__ = ["KeepEvery"]


@attrs.frozen(kw_only=True)
class KeepEvery(Composable):
    """Keep the checkpoints of every *every*-th epoch, or step, 0 included; of several with one count the newest.

    With *closest*, also where no multiple was hit, the one that is closest to each; the lower of two as close. Epochs
    count when they end.
    """

    every: int = attrs.field(validator=at_least_one)
    unit: Literal["epochs", "steps"] = "epochs"
    closest: bool = False

    def __attrs_post_init__(self) -> None:
        one_of("unit", self.unit, ("epochs", "steps"))

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Keep one for each multiple that there is one for."""
        chosen = self._closest(saved) if self.closest else self._exact(saved)
        what = f"closest to {self.unit[:-1]}" if self.closest else self.unit[:-1]
        return {one.id: f"{what} {multiple:,}, a multiple of {self.every:,}" for multiple, one in chosen.items()}

    def _counted(self, saved: Sequence[Saved]) -> list[tuple[int, Saved]]:
        if self.unit == "steps":
            return [(one.step, one) for one in saved if one.step is not None]
        return [(one.epoch, one) for one in saved if one.epoch is not None and one.epoch_ended]

    def _exact(self, saved: Sequence[Saved]) -> dict[int, Saved]:
        every = self.every
        return {count: one for count, one in self._counted(saved) if count % every == 0}

    def _closest(self, saved: Sequence[Saved]) -> dict[int, Saved]:
        every = self.every
        found: dict[int, tuple[int, Saved]] = {}
        for count, one in self._counted(saved):
            multiple = (count + every // 2) // every * every
            before = found.get(multiple)
            if before is None or (abs(count - multiple), count) <= (abs(before[0] - multiple), before[0]):
                found[multiple] = (count, one)  # of one count the newest
        return {multiple: one for multiple, (_, one) in found.items()}
