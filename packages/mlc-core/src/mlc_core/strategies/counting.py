"""How many epochs ended since the last save, however epochs are numbered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_core.strategies.stateful import Stateful, number

if TYPE_CHECKING:
    from mlc_core.records import Moment

__all__ = ["CountsEpochs"]


@attrs.define
class CountsEpochs(Stateful):
    """Counts the ends of epochs since anything was saved; a checkpoint that was removed since has still been saved."""

    _epochs: int = attrs.field(default=0, init=False, eq=False, repr=False, validator=number)
    _sequence: int = attrs.field(default=-1, init=False, eq=False, repr=False, validator=number)

    def count_epochs(self, moment: Moment) -> int:
        """Return how many epochs ended since the last save, this one included. To be asked once per moment."""
        newest = -1 if moment.latest is None else moment.latest.sequence
        if newest > self._sequence:  # an older latest means that a newer one was removed, which is no save
            self._sequence, self._epochs = newest, 0
        self._epochs += moment.epoch_ended
        return self._epochs

    def begin_anew(self) -> None:
        """Count from here: this moment is saved."""
        self._epochs = 0
