"""Where the time of a step goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["StepProfiler"]


class StepProfiler:
    """Profiles a few steps, and writes `profile.json`, which Perfetto and Chrome open, and `profile.txt`, a table.

    Args:
        wait: Steps that come first, and are not profiled: what happens once is not what takes the time.
        steps: Steps that are.
    """

    def __init__(self, wait: int = 5, steps: int = 5) -> None:
        self._wait = wait
        self._steps = steps
        self._profile: torch.profiler.profile | None = None

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Begin to count."""
        self._directory = run.directory
        self._seen = 0
        if not self._wait:
            self._start()

    def step_ended(self, position: Position) -> None:
        """Start, stop, or count."""
        self._seen += 1
        if self._seen == self._wait:
            self._start()
        elif self._seen == self._wait + self._steps:
            self._write()

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def rolled_back(self, position: Position) -> None:
        """Do nothing."""

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Do nothing."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Write what there is, if the run was shorter."""
        self._write()

    def _start(self) -> None:
        self._profile = torch.profiler.profile(record_shapes=True)
        self._profile.start()

    def _write(self) -> None:
        if self._profile is None:
            return
        profile, self._profile = self._profile, None
        profile.stop()
        profile.export_chrome_trace(str(self._directory / "profile.json"))
        table = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
        (self._directory / "profile.txt").write_text(table, encoding="utf-8")
