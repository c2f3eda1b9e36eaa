"""How fast training is, and how long it waits for data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["Throughput"]


class Throughput:
    """Logs `samples_per_second`, `steps_per_second` and `data_wait`, the share of the time spent waiting for batches.

    Each is of the steps since the last time; what is measured, told and saved between them does not count, nor the
    copy that a save in the background makes.
    """

    def __init__(self) -> None:
        self._waited = self._worked = self._mark = 0.0
        self._samples = self._steps = 0

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Begin to count."""
        self._begin()

    def batch_awaited(self, position: Position) -> None:
        """Begin to wait."""
        self._mark = time.perf_counter()

    def step_began(self, position: Position, samples: int) -> None:
        """Count what was waited."""
        now = time.perf_counter()
        self._waited += now - self._mark
        self._samples += samples
        self._mark = now

    def step_ended(self, position: Position) -> None:
        """Count the step."""
        now = time.perf_counter()
        self._worked += now - self._mark
        self._steps += 1
        self._mark = now

    def numbers(self, engine: Engine, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return what the steps since the last time came to."""
        self._worked += time.perf_counter() - self._mark  # a device was waited for, to know the values
        seconds = self._waited + self._worked
        found = {
            "samples_per_second": self._samples / seconds,
            "steps_per_second": self._steps / seconds,
            "data_wait": self._waited / seconds,
        }
        self._begin()
        return found

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def rolled_back(self, position: Position) -> None:
        """Do nothing."""

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Do nothing."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Do nothing."""

    def _begin(self) -> None:
        self._waited = self._worked = 0.0
        self._samples = self._steps = 0
        self._mark = time.perf_counter()
