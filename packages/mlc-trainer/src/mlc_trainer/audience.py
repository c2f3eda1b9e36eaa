"""Who hears of a training whose loop is its user's: observers, and the plugins that hear of every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_trainer import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlc_trainer.engine import Position
    from mlc_trainer.observers import Observer, RunRecord

__all__ = ["Audience"]


@attrs.define
class Audience:
    """Observers in order, and plugins; of several processes one has them, and the others speak to nobody."""

    observers: Sequence[Observer]
    speaks: bool
    record: RunRecord | None = None

    def run_started(self, record: RunRecord, position: Position) -> None:
        """Tell all that training begins or goes on."""
        self.record = record
        if self.speaks:
            events.run_started(record)
        for observer in self.observers:
            observer.run_started(record, position)

    def step_ended(self, position: Position) -> None:
        """Tell observers of a step."""
        for observer in self.observers:
            observer.step_ended(position)

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Tell observers what an epoch came to, each with a dictionary of its own."""
        for observer in self.observers:
            observer.epoch_ended(position, dict(metrics))

    def checkpoints_saved(self, saved: Iterable[tuple[Position, str]]) -> None:
        """Tell observers of each checkpoint, where training stood and where it lies."""
        for position, location in saved:
            for observer in self.observers:
                observer.checkpoint_saved(position, location)

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Tell all that training ended, and by what."""
        for observer in self.observers:
            observer.run_ended(position, error)
        if self.speaks and self.record is not None:
            events.run_ended(self.record, error)
